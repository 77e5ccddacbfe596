"""Exporter that leaves the exporting to a process beside the program, which follows the log."""

from .exporter import CollectExporter

__all__ = ["CollectExporter"]
