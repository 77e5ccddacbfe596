"""Exporters of one sidecar that know of each other: one reads the log that another writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from sidestream.stats import CollectorStats

from .exporter import Exporter


@runtime_checkable
class WritesLog(Protocol):
    """An exporter that writes a log of events."""

    @property
    def log_path(self) -> str:
        """The folder or the file to which it writes, absolute."""


@runtime_checkable
class ReadsLog(Protocol):
    """An exporter that takes no events, but has the log read by another process."""

    def read_log(self, path: str | None) -> None:
        """The log is at `path`; None where no exporter of the sidecar writes one.

        Raises `ConfigurationError` where it cannot work so.
        """

    def collector_stats(self) -> CollectorStats:
        """What that process has taken over."""


def connect(exporters: Sequence[Exporter]) -> None:
    """Tell the exporters that read a log which one it is. Raises `ConfigurationError` where that cannot work."""
    for reader in exporters:
        if isinstance(reader, ReadsLog):
            reader.read_log(next((each.log_path for each in exporters if isinstance(each, WritesLog)), None))


def collector_stats(exporters: Sequence[Exporter]) -> CollectorStats | None:
    """What a collector beside the program has taken over; None where there is none."""
    return next((each.collector_stats() for each in exporters if isinstance(each, ReadsLog)), None)
