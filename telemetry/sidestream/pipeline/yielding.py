"""Yielding of the GIL: background work in slices, between which the agents' threads can run."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

SHORT_SLICE = 60e-6
"""Maximum seconds to hold the GIL if other threads wait in an event loop, which must wake on time."""
LONG_SLICE = 1e-3
"""Maximum seconds to hold the GIL if other threads compute without pause, and each switch costs them more."""
PAUSE = 1e-4
"""Seconds of sleep between two slices."""
MEASURE_SECONDS = 0.02
"""Minimum seconds over which the load of other threads is measured."""
COMPUTING = 0.8
"""Share of the remaining time used by other threads above which they are considered to compute without pause."""


class GilYielder:
    """Yields the GIL between slices of work: call `maybe_yield` after each piece.

    Never sleeps on the thread of an event loop, because the sleep would block the very code that needs the GIL.
    """

    def __init__(self) -> None:
        self._until = inf if _in_event_loop() else time.perf_counter() + _load.slice_seconds()

    def maybe_yield(self) -> None:
        """Sleep briefly if the slice is over, unless this thread is in a hurry."""
        if time.perf_counter() >= self._until:
            if time.perf_counter() < _load.hurry_at:
                time.sleep(PAUSE)
            self._until = time.perf_counter() + _load.slice_seconds()


@contextmanager
def hurrying(after: float, long_slices_after: float = inf) -> Iterator[None]:
    """Stop sleeping on this thread after `after` seconds within the block, because another thread waits for the work.

    After `long_slices_after` seconds, slices are long. Without sleep, the interpreter still switches threads every few
    milliseconds on request.
    """
    before, now = (_load.hurry_at, _load.long_at), time.perf_counter()
    _load.hurry_at, _load.long_at = now + after, now + long_slices_after
    try:
        yield
    finally:
        _load.hurry_at, _load.long_at = before


class _Load(threading.local):
    """CPU load of the other threads, measured from the current thread."""

    def __init__(self) -> None:
        self._measured_at = self._own = self._others = 0.0
        self._slice = SHORT_SLICE
        self.hurry_at = inf
        """`perf_counter` time from which the thread no longer sleeps."""
        self.long_at = inf
        """`perf_counter` time from which slices are long."""

    def slice_seconds(self) -> float:
        """Seconds for which this thread may hold the GIL."""
        now = time.perf_counter()
        if now - self._measured_at >= MEASURE_SECONDS:
            own = time.thread_time()
            others = time.process_time() - own
            remaining = now - self._measured_at - (own - self._own)
            self._slice = LONG_SLICE if others - self._others > COMPUTING * remaining else SHORT_SLICE
            self._measured_at, self._own, self._others = now, own, others
        return LONG_SLICE if now >= self.long_at else self._slice


_load = _Load()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
