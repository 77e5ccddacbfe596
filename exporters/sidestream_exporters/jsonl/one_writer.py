"""Exporters of one process that share a log: one exporter writes each run, so that no event is logged twice.

Two exporters share a log if a program with a sidecar of its own is started by `sidestream run`, or if the settings name
an exporter twice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import count
from weakref import WeakValueDictionary

from sidestream.diagnostics import info_once
from sidestream.events import StreamEvent

MAX_RUNS = 10_000
"""Runs remembered per log; the oldest is evicted, since its events have long been written."""

_numbers = count(1)


class LogWriter:
    """Registration of one exporter among this process's writers of the log at `path`, until the object is released."""

    def __init__(self, path: str) -> None:
        place = os.path.realpath(path)
        self._number = next(_numbers)
        self._log = _logs.get(place) or _logs.setdefault(place, _SharedLog(place))
        self._log.is_shared |= len(self._log.writers) > 0
        self._log.writers[self._number] = self

    def choose(self, events: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
        """Subset of `events` that this exporter is to write: runs of another writer are left out."""
        if not self._log.is_shared:
            return events
        return [event for event in events if self._log.is_for(self._number, event)]


class _SharedLog:
    """Assignment of runs to the exporters of one log. Lock-free: a fork would copy a held lock into the child."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.is_shared = False
        """Whether two writers have been registered at once."""
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
            run.number = number  # the previous writer was closed in the middle of the run
        run.last_seq = max(run.last_seq, event.seq)
        return True


class _RunWriter:
    """Writer of one run: the exporter's number, and the last sequence number written."""

    __slots__ = ("last_seq", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.last_seq = -1


_logs: WeakValueDictionary[str, _SharedLog] = WeakValueDictionary()
