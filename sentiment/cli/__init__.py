"""Parse the command line: one thin module per command of `python -m sentiment`."""
