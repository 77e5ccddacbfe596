"""Forwarding of a log's events to exporters: follow, replay, collect."""
