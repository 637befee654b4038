"""The command line: one file per group of verbs, `__main__` puts them together."""
