"""The command line `byokctl`.

What `--help` needs stands in `commands/` and imports nothing heavy; each command loads the module that does its work
when it runs, because c2pa and grpc take longer to load than help may take to appear.
"""
