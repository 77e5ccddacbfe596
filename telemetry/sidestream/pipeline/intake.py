"""Intake of the pipeline: turns raw records into events, and queues the events for every exporter."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from sidestream.events import StreamEvent

from .assembler import Assembler
from .queue import Item, size_of
from .subscription import Subscription
from .ticket import Ticket
from .yielding import GilYielder

SLICE = 256
"""Maximum number of events queued at once."""
STALE_SECONDS = 0.1
"""Seconds between two checks for stalled streams."""


class Intake:
    """Turns `records` into queued events, on one thread at a time.

    Args:
        records: Records appended by the caller's path. Never replaced, so that a reference to `append` stays valid.
        subscriptions: Subscriptions whose queues receive the events.
        assembler: Makes events of records that are not events.
        is_recording: Whether runs are in progress, whose streams may stall.
        on_error: Receives exceptions of the assembler.
    """

    def __init__(
        self,
        records: deque[Any],
        subscriptions: Sequence[Subscription],
        assembler: Assembler,
        is_recording: Callable[[], bool],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._records = records
        self._subscriptions = subscriptions
        self._assembler = assembler
        self._is_recording = is_recording
        self._on_error = on_error
        self.reset()

    def reset(self) -> None:
        """Discard all records."""
        self._records.clear()
        self._lock = threading.Lock()
        self._number = self._taken = 0
        self._stale_at = 0.0
        self.active_at = 0.0
        """Monotonic time at which records were last processed."""

    @property
    def pending(self) -> int:
        """Approximate number of records whose events are not queued yet; exact if 0."""
        return max(len(self._records), self._taken)

    def drain(self) -> None:
        """Process the current records."""
        if not self._lock.acquire(blocking=False):
            return  # another thread is draining, or this thread, interrupted by a finalizer or signal handler
        try:
            records, events = self._records, list[StreamEvent]()
            self._taken = len(records)
            yielder = GilYielder()
            now = time.monotonic()
            if records:
                self.active_at = now
            for _ in range(len(records)):
                record = records.popleft()
                if isinstance(record, StreamEvent):
                    events.append(record)
                elif isinstance(record, Ticket):
                    self._distribute(events)
                    for subscription in self._subscriptions:
                        subscription.request(record)
                    record.distributed = True
                else:
                    self._guarded(self._assembler.feed, record, events.append)
                if len(events) >= SLICE:
                    self._distribute(events)
                yielder.maybe_yield()
            if self._is_recording() and now >= self._stale_at + STALE_SECONDS:
                self._stale_at = now
                self._guarded(self._assembler.flush_stale, time.monotonic_ns(), events.append)
            self._distribute(events)
            self._taken = 0
        finally:
            self._lock.release()

    def _distribute(self, events: list[StreamEvent]) -> None:
        """Queue `events` for every exporter, and clear the list."""
        first = self._number + 1
        self._number += len(events)
        items: list[Item] = [(number, size_of(event), event) for number, event in enumerate(events, first)]
        events.clear()
        for subscription in self._subscriptions:
            subscription.put(items)

    def _guarded(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            self._on_error(error)
