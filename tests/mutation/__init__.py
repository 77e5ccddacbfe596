"""Mutation testing: see `python -m tests.mutation --help`."""
