"""Release: what goes to the package index, built and tried. See `python -m tests.release --help`."""
