"""The interface of a store of runs: what is asked of a log, be it files of this machine or a table of many.

Lists, statistics, search, single runs, conversations and errors are made from these questions alone, so that they are
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
from .runs.tree import Located

Stretch: TypeAlias = tuple[str, Iterator[Block]]
"""Lines of one file, or of what stands for one, in their order."""


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some runs of a list, in its order."""

    runs: list[RunSummary]
    total: int
    """How many the whole list has."""


class RunStore(Protocol):
    """A log that can be asked. Safe to use from one thread at a time; it holds nothing open between two questions."""

    def summaries(
        self, where: Filter | None = None, *, facts: bool = False, on_problem: OnProblem | None = None
    ) -> Iterator[tuple[RunSummary, Facts | None]]:
        """The runs that `where` takes, in no order; where `facts` are wanted with their requests and tool calls."""

    def page(
        self, where: Filter | None, order: Order, *, limit: int, offset: int = 0, on_problem: OnProblem | None = None
    ) -> RunPage:
        """The runs that `where` takes, in `order`, from number `offset` on and `limit` of them at most.

        In memory that does not grow with the log.
        """

    def over_time(self, where: Filter | None, *, bins: int) -> RunsOverTime:
        """The runs that `where` takes, by when they began, in so many `bins` of the same length.

        Where `where` takes outermost runs alone, their cost is that with sub-agents, else their own: nothing counts
        twice.
        """

    def names(self) -> RunNames:
        """The names that the log's runs have."""

    def called(self, name: str) -> list[RunSummary]:
        """The run whose id is `name`; else the runs of the trace `name`, and those whose id begins or ends so."""

    def tree(self, prefix: str) -> list[RunSummary]:
        """The runs whose id begins with `prefix`, and every run of the same trees."""

    def located(self, run_ids: Collection[str]) -> Iterator[Located]:
        """The events of the runs `run_ids`, each with its place. An event that is there twice comes twice."""

    def stretches(self, run_ids: Collection[str] | None, on_problem: OnProblem | None = None) -> Iterator[Stretch]:
        """The lines of the runs `run_ids`, or of all, in order of time; lines of other runs may be among them."""

    def state(self) -> object:
        """Fingerprint of the log: differs after something was written."""
