"""Coverage-guided attacks on what reads other people's input; see `python -m fuzz --help`."""
