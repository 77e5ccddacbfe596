"""Source of runs: the SDKs of model providers and of other agents, observed without a line in the program."""
