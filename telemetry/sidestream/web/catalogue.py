"""Cached queries of the pages: a page of the run list, runs over time, a single run. Never all runs at once."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from glob import escape
from typing import TypeVar

from sidestream.log import Conversation, Filter, Order, RunSummary
from sidestream.log.open_store import store_of
from sidestream.log.runs.conversations import ConversationPage, conversation_page, conversations_of
from sidestream.log.runs.iteration import when
from sidestream.log.runs.naming import SHORTEST_ID
from sidestream.log.runs.overview import RunNames, RunsOverTime
from sidestream.log.store import RunPage, RunStore

FRESH_SECONDS = 2.0
"""Seconds for which a cached result is valid while the log is unchanged. Limited, since the end of a writer's process
changes runs from `running` to `lost` without changing a file. At least `PATIENCE` times the duration of the query."""
PATIENCE = 10
"""Validity of a slow query's result, as a multiple of the query's duration."""
MAX_CACHED = 32
"""Most results in the cache."""
NEIGHBOUR_LIMIT = 100
"""Runs fetched to find the neighbours of a run; the neighbours are missed if more runs start at the same instant."""

_T = TypeVar("_T")


class Catalogue:
    """Cache of queries about the runs of a log. Thread-safe."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = tuple(paths)
        self._lock = threading.Lock()
        self._cache: OrderedDict[object, tuple[object, float, object]] = OrderedDict()

    @property
    def store(self) -> RunStore:
        """Store of the current thread."""
        return store_of(self.paths)

    def signature(self) -> object:
        """Fingerprint of the log, which changes with every write."""
        return self.store.state()

    def page(self, where: Filter, order: Order, *, limit: int, offset: int = 0) -> RunPage:
        """Runs that match `where`, in `order`: at most `limit`, after skipping `offset`."""
        return self._cached(
            ("page", repr(where), order, limit, offset),
            lambda: self.store.page(where, order, limit=limit, offset=offset),
        )

    def count(self, where: Filter) -> int:
        """Number of runs that match `where`."""
        return self.page(where, Order(), limit=0).total

    def over_time(self, where: Filter, bins: int) -> RunsOverTime:
        """Runs that match `where`, aggregated into `bins` intervals by their start."""
        return self._cached(("over_time", repr(where), bins), lambda: self.store.over_time(where, bins=bins))

    def names(self) -> RunNames:
        """Names of agents, models and tools in the log."""
        return self._cached("names", lambda: self.store.names())

    def run(self, run_id: str) -> RunSummary | None:
        """Run with this id, or with the only id that begins or ends with `run_id`; None otherwise."""
        return self._cached(("run", run_id), lambda: _with_id(run_id, self.store.called(run_id)))

    def run_of_trace(self, trace_id: str) -> RunSummary | None:
        """First root run of a trace; None if the log has none."""
        return _of_trace(trace_id, self.store.called(trace_id))

    def named(self, name: str) -> RunSummary | None:
        """Run with this id, with this beginning or end of its id, or of this trace; None otherwise."""
        found = self.store.called(name)
        return _with_id(name, found) or _of_trace(name, found)

    def family(self, root_run_id: str) -> list[RunSummary]:
        """Root run with this id, and all sub-agent runs of its tree."""
        return self._cached(
            ("family", root_run_id),
            lambda: [run for run in self.store.tree(root_run_id) if run.root_run_id == root_run_id],
        )

    def conversations(self, where: Filter, *, limit: int, offset: int = 0) -> ConversationPage:
        """Conversations with a run that matches `where`, the most recently active first."""
        return self._cached(
            ("conversations", repr(where), limit, offset),
            lambda: conversation_page(self.paths, where, limit=limit, offset=offset),
        )

    def conversation(self, conversation_id: str) -> Conversation | None:
        """Conversation with this id; None if the log has none."""
        its = Filter(conversations=(escape(conversation_id),))
        roots = {run.root_run_id for run, _ in self.store.summaries(its)}
        found = conversations_of([run for root in roots for run in self.family(root)])
        return next((each for each in found if each.conversation_id == conversation_id), None)

    def neighbours(self, run: RunSummary) -> tuple[RunSummary | None, RunSummary | None]:
        """Root runs that started just before and just after `run`; None for each that does not exist."""
        if run.started is None:
            return (None, None)
        outer = Filter(outermost=True)
        store = self.store
        later = store.page(replace(outer, since=run.started), Order(ascending=True), limit=NEIGHBOUR_LIMIT).runs
        before = [each for each in later if when(each) < when(run)]
        after = [each for each in later if when(each) > when(run)]
        if not before:
            before = store.page(replace(outer, until=run.started), Order(), limit=NEIGHBOUR_LIMIT).runs
        return (max(before, key=when, default=None), min(after, key=when, default=None))

    def _cached(self, key: object, query: Callable[[], _T]) -> _T:
        """Result of `query`, cached under the key `key` while the log is unchanged."""
        state, now = self.signature(), time.monotonic()
        with self._lock:
            cached = self._cache.get(key)
        if cached is not None and cached[0] == state and now < cached[1]:
            return cached[2]  # type: ignore[return-value]
        answer = query()
        done = time.monotonic()
        with self._lock:
            self._cache[key] = (state, done + max(FRESH_SECONDS, PATIENCE * (done - now)), answer)
            self._cache.move_to_end(key)
            while len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        return answer


def _with_id(run_id: str, called: list[RunSummary]) -> RunSummary | None:
    for run in called:
        if run.run_id == run_id:
            return run
    alike = [run for run in called if run.run_id.startswith(run_id) or run.run_id.endswith(run_id)]
    return alike[0] if len(alike) == 1 and len(run_id) >= SHORTEST_ID else None


def _of_trace(trace_id: str, called: list[RunSummary]) -> RunSummary | None:
    its = [run for run in called if run.trace_id == trace_id.lower()]
    return min(its, key=lambda run: (run.parent_run_id is not None, when(run)), default=None)
