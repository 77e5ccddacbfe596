"""Adapters that interpret the items of a stream, by SDK."""
