"""In-memory exporter for tests and notebooks."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from sidestream.events import StreamEvent
from sidestream.recording.content import ContentPolicy

from .exporter import Exporter


class InMemoryExporter(Exporter):
    """Keeps events in a list: for tests, notebooks, and programs that inspect their own runs.

    Call `Sidecar.flush()` before reading. Thread-safe.
    """

    name = "memory"
    interval = 0.02

    def __init__(self, *, content: str | ContentPolicy = "full") -> None:
        self.content = ContentPolicy.parse(content)
        self._events: list[StreamEvent] = []
        self._lock = threading.Lock()

    def export(self, events: Sequence[StreamEvent]) -> None:
        with self._lock:
            self._events.extend(events)

    @property
    def events(self) -> list[StreamEvent]:
        """All events so far, in order of arrival."""
        with self._lock:
            return list(self._events)

    def of(self, *event_types: str) -> list[StreamEvent]:
        """Events of the given types (`"llm_end"`, `StreamEventType.TOOL_START`)."""
        return [event for event in self.events if event.event_type in event_types]

    def runs(self) -> dict[str, list[StreamEvent]]:
        """Events by run id, in order of each run's first event."""
        runs: dict[str, list[StreamEvent]] = {}
        for event in self.events:
            runs.setdefault(event.run_id, []).append(event)
        return runs

    def clear(self) -> None:
        """Discard all events."""
        with self._lock:
            self._events.clear()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._events = []

    def __iter__(self) -> Iterator[StreamEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        with self._lock:
            return len(self._events)
