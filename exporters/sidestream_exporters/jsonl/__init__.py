"""JSONL exporter: the durable log, one line of JSON per event."""

from .exporter import JSONLExporter

__all__ = ["JSONLExporter"]
