"""The console exporter: runs as they happen, in a terminal or as structured lines."""

from .exporter import ConsoleExporter

__all__ = ["ConsoleExporter"]
