"""The command line: one file per command; click and rich stay in here."""
