"""The index over a log: which run stands where."""
