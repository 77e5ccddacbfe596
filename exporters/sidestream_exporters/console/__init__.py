"""Console exporter: runs as they happen, in a terminal or as structured log lines."""

from .exporter import ConsoleExporter

__all__ = ["ConsoleExporter"]
