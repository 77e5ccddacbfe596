"""Runs of a log: summaries, trees, statistics, search, comparison."""
