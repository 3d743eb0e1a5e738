"""The command line: ``blinddiff COMMAND``."""
