"""The seam between recording and pipeline: raw records of runs become events on the pipeline's worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sidestream.events import StreamEvent

Emit = Callable[[StreamEvent], None]


class Assembler(Protocol):
    """State machine that turns raw records into events. Called by one thread at a time, in the order of the records."""

    def feed(self, record: Any, emit: Emit) -> None:
        """Take one record that is no finished event, and `emit` the events that follow from it."""

    def flush_stale(self, now_ns: int, emit: Emit) -> None:
        """`emit` what a stream that stands still has left waiting. Called about every 0.1 s while runs are in progress.

        Args:
            now_ns: `time.monotonic_ns()` of the call.
            emit: Takes each event.
        """


class FinishedEventsOnly:
    """Assembler for callers that put nothing but finished events."""

    def feed(self, record: Any, emit: Emit) -> None:
        raise TypeError(f"{type(record).__qualname__} is no event, and there is no assembler to make one of it")

    def flush_stale(self, now_ns: int, emit: Emit) -> None:
        return
