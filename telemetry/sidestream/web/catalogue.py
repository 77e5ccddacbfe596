"""What the pages ask of a log: a page of its list, runs over time, one run. No list of all runs is held."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from glob import escape
from typing import TypeVar

from sidestream.log import Conversation, Filter, Order, RunSummary, conversations
from sidestream.log.open_store import store_of
from sidestream.log.runs.conversations import conversations_of
from sidestream.log.runs.iteration import when
from sidestream.log.runs.naming import SHORTEST_ID
from sidestream.log.runs.overview import RunNames, RunsOverTime
from sidestream.log.store import RunPage, RunStore

FRESH_SECONDS = 2.0
"""Seconds for which an answer holds while the log stays as it is: whether the writers of running runs are alive is in
no file. Where the answer took long to find, it holds `PATIENCE` times that."""
PATIENCE = 10
KEPT = 32
"""Answers that are kept."""
AT_ONCE = 100
"""Runs among which the neighbours of one are looked for: so many may have begun at the very same time."""

_T = TypeVar("_T")


class Catalogue:
    """Answers about the runs of a log. Safe to ask from several threads."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = tuple(paths)
        self._lock = threading.Lock()
        self._kept: OrderedDict[object, tuple[object, float, object]] = OrderedDict()

    @property
    def store(self) -> RunStore:
        """A store for this thread alone."""
        return store_of(self.paths)

    def signature(self) -> object:
        """Fingerprint of the log: differs after something was written."""
        return self.store.state()

    def page(self, where: Filter, order: Order, *, limit: int, offset: int = 0) -> RunPage:
        """Some of the runs that `where` takes, in `order`."""
        return self._answer(
            ("page", repr(where), order, limit, offset),
            lambda: self.store.page(where, order, limit=limit, offset=offset),
        )

    def count(self, where: Filter) -> int:
        """How many runs `where` takes."""
        return self.page(where, Order(), limit=0).total

    def over_time(self, where: Filter, bins: int) -> RunsOverTime:
        """The runs that `where` takes, by when they began."""
        return self._answer(("over_time", repr(where), bins), lambda: self.store.over_time(where, bins=bins))

    def names(self) -> RunNames:
        """The names that the log's runs have."""
        return self._answer("names", lambda: self.store.names())

    def run(self, run_id: str) -> RunSummary | None:
        """The run with this id, or with the only id that begins or ends so."""
        return self._answer(("run", run_id), lambda: _with_id(run_id, self.store.called(run_id)))

    def run_of_trace(self, trace_id: str) -> RunSummary | None:
        """The outermost, and of several such the first, run of a trace."""
        return _of_trace(trace_id, self.store.called(trace_id))

    def named(self, name: str) -> RunSummary | None:
        """The run with this id, or a part of it, or of this trace."""
        found = self.store.called(name)
        return _with_id(name, found) or _of_trace(name, found)

    def family(self, root_run_id: str) -> list[RunSummary]:
        """The outermost run with this id, and all runs below it."""
        return self._answer(
            ("family", root_run_id),
            lambda: [run for run in self.store.tree(root_run_id) if run.root_run_id == root_run_id],
        )

    def conversations(self, where: Filter) -> list[Conversation]:
        """The conversations of which `where` takes a run, the one with the latest turn last."""
        return self._answer(("conversations", repr(where)), lambda: conversations(self.paths, where))

    def conversation(self, conversation_id: str) -> Conversation | None:
        """The conversation with this id."""
        its = Filter(conversations=(escape(conversation_id),))
        roots = {run.root_run_id for run, _ in self.store.summaries(its)}
        found = conversations_of([run for root in roots for run in self.family(root)])
        return next((each for each in found if each.conversation_id == conversation_id), None)

    def neighbours(self, run: RunSummary) -> tuple[RunSummary | None, RunSummary | None]:
        """The outermost runs that began just before and just after `run`."""
        if run.started is None:
            return (None, None)
        outer = Filter(outermost=True)
        store = self.store
        later = store.page(replace(outer, since=run.started), Order(ascending=True), limit=AT_ONCE).runs
        before = [each for each in later if when(each) < when(run)]
        after = [each for each in later if when(each) > when(run)]
        if not before:
            before = store.page(replace(outer, until=run.started), Order(), limit=AT_ONCE).runs
        return (max(before, key=when, default=None), min(after, key=when, default=None))

    def _answer(self, question: object, ask: Callable[[], _T]) -> _T:
        """The answer to `question`: the one before, where the log has not changed since."""
        state, now = self.signature(), time.monotonic()
        with self._lock:
            kept = self._kept.get(question)
        if kept is not None and kept[0] == state and now < kept[1]:
            return kept[2]  # type: ignore[return-value]
        answer = ask()
        done = time.monotonic()
        with self._lock:
            self._kept[question] = (state, done + max(FRESH_SECONDS, PATIENCE * (done - now)), answer)
            self._kept.move_to_end(question)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
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
