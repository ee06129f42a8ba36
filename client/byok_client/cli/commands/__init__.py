"""The commands as `--help` shows them: options, examples, and which module does the work."""
