"""Exporter that runs a collector process beside the program; the collector follows the log and exports it."""

from .exporter import CollectExporter

__all__ = ["CollectExporter"]
