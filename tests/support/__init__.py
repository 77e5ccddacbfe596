"""Shared test helpers: agents, events, logs, servers and programs."""
