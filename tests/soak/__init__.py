"""A long run that watches what a process holds: see `python -m tests.soak --help`."""
