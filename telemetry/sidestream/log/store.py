"""Interface of a store of runs: the queries that log files and ClickHouse both answer.

Lists, statistics, search, single runs, conversations and errors are built from these queries alone, so that they are
the same over every store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol, TypeAlias

import msgspec

from .index.parts import Facts
from .reader import Block, OnProblem
from .runs.filters import Filter, Order
from .runs.overview import RunNames, RunsOverTime
from .runs.summary import RunSummary
from .runs.totals import Statistics
from .runs.tree import Located

Stretch: TypeAlias = tuple[str, Iterator[Block]]
"""Name of a file, or of its equivalent in the store, with its lines in order."""


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """Page of a list of runs."""

    runs: list[RunSummary]
    total: int
    """Number of runs in the whole list."""


class ConversationRuns(msgspec.Struct, frozen=True, kw_only=True):
    """Some conversations of a log, the one with the latest turn first."""

    ids: list[str]
    runs: list[RunSummary]
    """Every run of these conversations, sub-agents included, in no order."""
    total: int
    """Number of conversations on all pages."""


class RunStore(Protocol):
    """Log that can be queried. Use from one thread at a time. Holds nothing open between two queries."""

    def summaries(
        self, where: Filter | None = None, *, facts: bool = False, on_problem: OnProblem | None = None
    ) -> Iterator[tuple[RunSummary, Facts | None]]:
        """Runs that match `where`, unordered; with their requests and tool calls if `facts` is true."""

    def page(
        self, where: Filter | None, order: Order, *, limit: int, offset: int = 0, on_problem: OnProblem | None = None
    ) -> RunPage:
        """Runs that match `where`, sorted by `order`: at most `limit` of them, starting at `offset`.

        Memory use does not grow with the log.
        """

    def conversations(
        self, where: Filter | None, *, limit: int, offset: int = 0, on_problem: OnProblem | None = None
    ) -> ConversationRuns:
        """Conversations with a run that `where` takes, the one with the latest turn first."""

    def every_conversation(
        self, where: Filter | None, *, on_problem: OnProblem | None = None
    ) -> Iterator[ConversationRuns]:
        """All conversations with a run that `where` takes, in the same order, a few hundred at a time.

        Memory holds the runs of those few hundred, whatever the size of the log.
        """

    def over_time(self, where: Filter | None, *, bins: int) -> RunsOverTime:
        """Runs that match `where`, by start time, in `bins` intervals of equal length.

        If `where` selects outermost runs only, their cost includes sub-agents, otherwise only their own requests, so
        that no cost counts twice.
        """

    def statistics(
        self, where: Filter | None, *, tags: Collection[str], on_problem: OnProblem | None = None
    ) -> Statistics:
        """Statistics of the runs that match `where`, also by the values of `tags`."""

    def names(self) -> RunNames:
        """Names of agents, models and tools that occur in the log."""

    def called(self, name: str) -> list[RunSummary]:
        """Run with the id `name`; else the runs of the trace `name` and runs whose id begins or ends with `name`."""

    def tree(self, prefix: str) -> list[RunSummary]:
        """Runs whose id begins with `prefix`, and all runs of their trees."""

    def located(self, run_ids: Collection[str]) -> Iterator[Located]:
        """Events of the runs `run_ids`, each with its location. Duplicate lines are returned as often as they occur."""

    def stretches(self, run_ids: Collection[str] | None, on_problem: OnProblem | None = None) -> Iterator[Stretch]:
        """Lines of the runs `run_ids`, or of all runs, in order of time; lines of other runs may be among them."""

    def state(self) -> object:
        """Fingerprint of the log: changes after every write."""
