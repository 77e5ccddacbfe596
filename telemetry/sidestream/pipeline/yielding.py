"""How work beside an agent is cut: into slices short enough that the agent's thread gets the GIL in between."""

from __future__ import annotations

import asyncio
import time
from math import inf

SLICE_SECONDS = 60e-6
"""How long the GIL is held at a time, about, while there is much to do."""
NAP = 0.000_1
"""Seconds of sleep between two slices: the caller's loop runs then."""


class GilYielder:
    """Work in slices: `maybe_yield`, after each piece of it, sleeps a little where the slice is over.

    On the thread of an event loop it does not, for there it would hold up those it is meant to let through.
    """

    def __init__(self) -> None:
        self._until = inf if _in_event_loop() else time.perf_counter() + SLICE_SECONDS

    def maybe_yield(self) -> None:
        if time.perf_counter() >= self._until:
            time.sleep(NAP)
            self._until = time.perf_counter() + SLICE_SECONDS


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
