"""pydantic-ai's own test suite, bare and with every agent observed: see `python -m tests.upstream --help`."""
