"""A run as it happens: its requests, tools, totals, content, prices and sampling, as events."""
