"""Background work in slices: the agents' threads get the GIL in between, as soon as they need it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

SHORT_SLICE = 60e-6
"""Seconds that the GIL is held at a time beside an event loop that waits and has to be woken on time."""
LONG_SLICE = 1e-3
"""The same beside code that computes without a pause: it is late for nobody, and each hand-over costs it more."""
PAUSE = 1e-4
"""Seconds of sleep between two slices."""
LOOK_SECONDS = 0.02
"""Shortest time over which it is judged whether the others wait."""
COMPUTING = 0.8
"""Share of the time left by this thread in which others compute, above which they are taken never to wait."""


class GilYielder:
    """Hands over the GIL between slices of work: call `maybe_yield` after each piece.

    On the thread of an event loop it never sleeps, for there it would hold up those that it is meant to let through.
    """

    def __init__(self) -> None:
        self._until = inf if _in_event_loop() else time.perf_counter() + _load.slice_seconds()

    def maybe_yield(self) -> None:
        """Sleep a little where the slice is over, unless this thread is in a hurry."""
        if time.perf_counter() >= self._until:
            if time.perf_counter() < _load.hurries_from:
                time.sleep(PAUSE)
            self._until = time.perf_counter() + _load.slice_seconds()


@contextmanager
def hurrying(after: float) -> Iterator[None]:
    """Within the block, work of this thread sleeps no more once `after` seconds are over: somebody waits for it.

    The interpreter still hands the GIL over every few milliseconds to those that ask for it.
    """
    before, _load.hurries_from = _load.hurries_from, time.perf_counter() + after
    try:
        yield
    finally:
        _load.hurries_from = before


class _Load(threading.local):
    """How busy the other threads of the process are, as seen from this one."""

    def __init__(self) -> None:
        self._looked_at = self._mine = self._others = 0.0
        self._slice = SHORT_SLICE
        self.hurries_from = inf
        """When (`perf_counter`) the thread stops sleeping."""

    def slice_seconds(self) -> float:
        """How long this thread may hold the GIL at a time."""
        now = time.perf_counter()
        if now - self._looked_at >= LOOK_SECONDS:
            mine = time.thread_time()
            others = time.process_time() - mine
            left = now - self._looked_at - (mine - self._mine)
            self._slice = LONG_SLICE if others - self._others > COMPUTING * left else SHORT_SLICE
            self._looked_at, self._mine, self._others = now, mine, others
        return self._slice


_load = _Load()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
