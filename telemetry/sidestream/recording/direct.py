"""Assembling on the spot: for streams that tell each event as it comes, and for tests and made-up runs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from sidestream.events import StreamEvent

from .assembler import RunAssembler
from .records import AnyRecord


class DirectAssembly:
    """Feeds an assembler with each record at once, in the thread that notes it.

    A record that is noted while another is being taken, by another thread, a signal handler or the garbage collector,
    waits in the queue for whoever is taking that one.
    """

    def __init__(self, assembler: RunAssembler, emit: Callable[[StreamEvent], None]) -> None:
        self.assembler = assembler
        self._emit = emit
        self._records: deque[AnyRecord] = deque()
        self._lock = threading.Lock()

    def append(self, record: AnyRecord) -> None:
        """Take `record`."""
        self._records.append(record)
        self._drain()

    def _drain(self) -> None:
        # Looked at again after the lock is released: a record may have come in between, to somebody who found it taken.
        while self._records and self._lock.acquire(blocking=False):
            try:
                while self._records:
                    self.assembler.feed(self._records.popleft(), self._emit)
            finally:
                self._lock.release()

    def flush_stale(self, now_ns: int) -> None:
        """Tell the deltas that have been gathered for long, as of the monotonic time `now_ns`."""
        if self._lock.acquire(blocking=False):  # else somebody is at it
            try:
                self.assembler.flush_stale(now_ns, self._emit)
            finally:
                self._lock.release()
            self._drain()
