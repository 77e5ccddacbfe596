"""Connected exporters of one sidecar: one reads the log that another writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from sidestream.stats import CollectorStats

from .exporter import Exporter


@runtime_checkable
class WritesLog(Protocol):
    """Exporter that writes a log of events."""

    @property
    def log_path(self) -> str:
        """Absolute path of the folder or file."""


@runtime_checkable
class ReadsLog(Protocol):
    """Exporter that receives no events, and has another process read the log."""

    def read_log(self, path: str | None) -> None:
        """Set the path of the log; None if no exporter of the sidecar writes a log.

        Raises `ConfigurationError` if the exporter cannot work with the log.
        """

    def collector_stats(self) -> CollectorStats:
        """Statistics of the reading process."""


def connect(exporters: Sequence[Exporter]) -> None:
    """Pass the log's path to exporters that read a log. Raises `ConfigurationError` if one cannot work with the log."""
    for reader in exporters:
        if isinstance(reader, ReadsLog):
            reader.read_log(next((each.log_path for each in exporters if isinstance(each, WritesLog)), None))


def collector_stats(exporters: Sequence[Exporter]) -> CollectorStats | None:
    """Statistics of the collector process; None without the exporter `collect`."""
    return next((each.collector_stats() for each in exporters if isinstance(each, ReadsLog)), None)
