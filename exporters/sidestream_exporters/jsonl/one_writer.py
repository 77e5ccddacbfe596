"""Exporters of one process that write to one log: each run is written by one of them, so that no event is there twice.

It happens where a program has a sidecar of its own and is started by `sidestream run`, or names an exporter twice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import count
from weakref import WeakValueDictionary

from sidestream.diagnostics import info_once
from sidestream.events import StreamEvent

MAX_RUNS = 10_000
"""Runs that are remembered; of older ones nothing comes any more."""

_numbers = count(1)


class LogWriter:
    """One exporter among those of this process that write to the log at `path`; it is one for as long as it is kept."""

    def __init__(self, path: str) -> None:
        place = os.path.realpath(path)
        self._number = next(_numbers)
        self._log = _logs.get(place) or _logs.setdefault(place, _SharedLog(place))
        self._log.is_shared |= len(self._log.writers) > 0
        self._log.writers[self._number] = self

    def choose(self, events: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
        """Those of `events` that no other exporter has written, or is to write."""
        if not self._log.is_shared:
            return events
        return [event for event in events if self._log.is_for(self._number, event)]


class _SharedLog:
    """Which exporter writes which run to one log. Without a lock: a process may fork while one is held."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.is_shared = False
        """Whether there have been two writers at once."""
        self.writers: WeakValueDictionary[int, LogWriter] = WeakValueDictionary()
        self._runs: dict[str, _RunWriter] = {}

    def is_for(self, number: int, event: StreamEvent) -> bool:
        run = self._runs.get(event.run_id)
        if run is None:
            run = self._runs.setdefault(event.run_id, _RunWriter(number))
            if len(self._runs) > MAX_RUNS:
                self._runs.pop(next(iter(self._runs)), None)
        if run.number != number:
            info_once("several exporters write to one log, each run is written once", self.path, path=self.path)
            if run.number in self.writers or event.seq <= run.last_seq:
                return False
            run.number = number  # the other was closed in the middle of the run
        run.last_seq = max(run.last_seq, event.seq)
        return True


class _RunWriter:
    """The exporter that writes a run, and how far it has come."""

    __slots__ = ("last_seq", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.last_seq = -1


_logs: WeakValueDictionary[str, _SharedLog] = WeakValueDictionary()
