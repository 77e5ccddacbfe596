"""Metrics: the table of definitions, aggregation from events, and the store of time series."""
