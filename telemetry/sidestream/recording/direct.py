"""Direct assembly of events in the recording thread: for streams with immediate events, tests and synthetic runs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from sidestream.events import StreamEvent

from .assembler import RunAssembler
from .records import AnyRecord


class DirectAssembly:
    """Feeds each record to an assembler at once, in the recording thread.

    A record appended during the processing of another one (by another thread, a signal handler or the garbage
    collector) is queued for the thread that is processing.
    """

    def __init__(self, assembler: RunAssembler, emit: Callable[[StreamEvent], None]) -> None:
        self.assembler = assembler
        self._emit = emit
        self._records: deque[AnyRecord] = deque()
        self._lock = threading.Lock()

    def append(self, record: AnyRecord) -> None:
        """Record `record`, and process all queued records."""
        self._records.append(record)
        self._drain()

    def _drain(self) -> None:
        # Check the queue again after releasing the lock: another thread may have queued a record and found the lock
        # taken.
        while self._records and self._lock.acquire(blocking=False):
            try:
                while self._records:
                    self.assembler.feed(self._records.popleft(), self._emit)
            finally:
                self._lock.release()

    def flush_stale(self, now_ns: int) -> None:
        """Emit deltas that have been collected for too long, as of the monotonic time `now_ns`."""
        if self._lock.acquire(blocking=False):  # otherwise another thread is already processing
            try:
                self.assembler.flush_stale(now_ns, self._emit)
            finally:
                self._lock.release()
            self._drain()
