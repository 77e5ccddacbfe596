"""Index over log files: the runs, and where in the files their lines are."""
