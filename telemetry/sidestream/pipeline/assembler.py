"""Interface between recording and pipeline: raw records become events on the pipeline's worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sidestream.events import StreamEvent

Emit = Callable[[StreamEvent], None]


class Assembler(Protocol):
    """State machine that turns raw records into events. Called by one thread at a time, in the order of the records."""

    def feed(self, record: Any, emit: Emit) -> None:
        """Process one record that is not a finished event, and pass the resulting events to `emit`."""

    def flush_stale(self, now_ns: int, emit: Emit) -> None:
        """Emit collected deltas of stalled streams. Called about every 0.1 s while runs are in progress.

        Args:
            now_ns: Current `time.monotonic_ns()`.
            emit: Receives each event.
        """


class FinishedEventsOnly:
    """Assembler for callers that put finished events only."""

    def feed(self, record: Any, emit: Emit) -> None:
        raise TypeError(f"{type(record).__qualname__} is not an event, and there is no assembler for it")

    def flush_stale(self, now_ns: int, emit: Emit) -> None:
        return
