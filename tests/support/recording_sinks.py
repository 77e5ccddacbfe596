"""Exporters that keep their events, and fail on request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from sidestream.errors import ExporterUnavailable
from sidestream.events import StreamEvent
from sidestream.pipeline.exporter import Exporter

from tests.support.forwarded_logs import ids  # isort: skip


class Sink(Exporter):
    """Keeps exported events. `away`: number of calls that raise `ExporterUnavailable`."""

    name = "sink"

    def __init__(self, *, away: int = 0) -> None:
        self.events: list[StreamEvent] = []
        self.started = self.flushed = self.closed = 0
        self.before_export: Callable[[], None] = lambda: None
        self._away = away

    def start(self) -> None:
        self.started += 1

    def export(self, events: Sequence[StreamEvent]) -> None:
        self.before_export()
        if self._away:
            self._away -= 1
            raise ExporterUnavailable("away")
        self.events += events

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed += 1

    @property
    def ids(self) -> list[tuple[str, int]]:
        return ids(self.events)


class Recorded(Sink):
    """Tracks delivered events, like the exporter of spans."""

    spans = True

    def __init__(self, delivered: dict[str, set[int]] | None = None) -> None:
        super().__init__()
        self._delivered = delivered

    def delivered(self) -> dict[str, set[int]] | None:
        return self._delivered


def stops_after(stop: threading.Event, calls: int) -> Callable[[], None]:
    """Function that sets `stop` in its nth call."""
    left = [calls]

    def call() -> None:
        left[0] -= 1
        if left[0] == 0:
            stop.set()

    return call
