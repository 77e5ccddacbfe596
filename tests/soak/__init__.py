"""Soak test of memory, threads and descriptors: see `python -m tests.soak --help`."""
