"""Runs read from a log: summaries, trees, statistics, search, differences."""
