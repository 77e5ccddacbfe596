"""Changes of the source that tests have to notice: see `python -m tests.mutation --help`."""
