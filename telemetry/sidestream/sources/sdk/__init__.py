"""SDKs of model providers and agents as sources of runs, observed without changes in the program."""
