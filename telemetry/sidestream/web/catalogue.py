"""Catalogue of the runs that the pages show, read anew when the log has changed."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence

from sidestream.log import RunSummary, runs
from sidestream.log.open_store import store_of
from sidestream.log.runs.iteration import when

RECHECK_SECONDS = 2.0
"""Seconds between two checks of whether the writers of running runs are alive, which no file shows. Where reading the
log takes long, the pause is `PATIENCE` times that."""
PATIENCE = 10


class Catalogue:
    """Summaries of all runs of a log. Safe to ask from several threads."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = tuple(paths)
        self._lock = threading.Lock()
        self._store = store_of(self.paths)
        self._signature: object = None
        self._recheck = 0.0
        self._runs: list[RunSummary] = []
        self._by_id: dict[str, RunSummary] = {}
        self._by_trace: dict[str, RunSummary] = {}
        self._families: dict[str, list[RunSummary]] = {}
        self._outermost: list[RunSummary] = []

    def signature(self) -> object:
        """Fingerprint of the log: differs after something was written."""
        return self._store.state()

    def runs(self) -> list[RunSummary]:
        """All runs, the newest last."""
        self._refresh()
        return self._runs

    def run(self, run_id: str) -> RunSummary | None:
        """The run with this id, or with the only id that begins or ends so."""
        self._refresh()
        if (found := self._by_id.get(run_id)) is not None:
            return found
        if len(run_id) < 4:
            return None
        alike = [run for full, run in self._by_id.items() if full.startswith(run_id) or full.endswith(run_id)]
        return alike[0] if len(alike) == 1 else None

    def run_of_trace(self, trace_id: str) -> RunSummary | None:
        """The outermost, and of several such the first, run of a trace."""
        self._refresh()
        return self._by_trace.get(trace_id.lower())

    def family(self, root_run_id: str) -> list[RunSummary]:
        """The outermost run with this id, and all runs below it."""
        self._refresh()
        return self._families.get(root_run_id, [])

    def neighbours(self, run: RunSummary) -> tuple[RunSummary | None, RunSummary | None]:
        """The outermost runs that began just before and just after `run`."""
        self._refresh()
        outer = self._outermost
        at = bisect_left(outer, when(run), key=when)
        after = at + (at < len(outer) and outer[at].run_id == run.run_id)
        return (outer[at - 1] if at > 0 else None, outer[after] if after < len(outer) else None)

    def _refresh(self) -> None:
        with self._lock:
            signature = self.signature()
            unsure = any(run.outcome == "running" for run in self._runs)
            if signature == self._signature and not (unsure and time.monotonic() > self._recheck):
                return
            began = time.monotonic()
            found = runs(self.paths)
            by_trace: dict[str, RunSummary] = {}
            families: dict[str, list[RunSummary]] = {}
            for run in found:
                families.setdefault(run.root_run_id, []).append(run)
                if run.trace_id and ((known := by_trace.get(run.trace_id)) is None or _is_outer(run, known)):
                    by_trace[run.trace_id] = run
            self._runs, self._by_id = found, {run.run_id: run for run in found}
            self._by_trace, self._families = by_trace, families
            self._outermost = [run for run in found if run.parent_run_id is None]
            now = time.monotonic()
            self._signature, self._recheck = signature, now + max(RECHECK_SECONDS, PATIENCE * (now - began))


def _is_outer(run: RunSummary, than: RunSummary) -> bool:
    return run.parent_run_id is None and than.parent_run_id is not None
