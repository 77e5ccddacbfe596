"""The JSONL exporter: one line an event, the durable log."""

from .exporter import JSONLExporter

__all__ = ["JSONLExporter"]
