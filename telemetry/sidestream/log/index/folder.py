"""Queries to the index of one folder. Long lists are read in pages, so that memory use does not grow with the log."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any

from sidestream.log.reader import Problem
from sidestream.log.runs.filters import Filter, Order

from .parts import RunPart
from .queries import Conditions, SortKey, in_order, key_of
from .rows import AGENT, CONVERSATION, MODELS, NAMES, TOOLS
from .store import Index
from .writer import in_lots, placeholders

_PAGE = 500  # runs per query

PartOfFile = tuple[Path, RunPart]
Measured = tuple[int | None, str, float | None, int, float | None]
"""Row of one run: start in microseconds, outcome, cost, non-zero if the cost is a lower bound, duration."""


class IndexedFolder:
    """Index of the log files in one folder, with queries over all or some of the files.

    A run is settled if it has ended and its row is complete. A run is not settled if it also has lines in other
    folders, or in files of this folder that are not queried.
    """

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        self._index = Index(folder, files)
        self._elsewhere: Collection[str] = ()

    def __enter__(self) -> IndexedFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._index.close()

    def problems(self) -> list[Problem]:
        return self._index.problems()

    def exclude(self, run_ids: Collection[str]) -> None:
        """Treat the runs `run_ids`, which also have lines in other folders, as not settled."""
        self._elsewhere = run_ids

    # --- settled runs ---

    def count(self, where: Filter | None) -> int:
        """Number of settled runs that match `where`."""
        return sum(self._ask_runs(int, "count(*)", where, ""))

    def ranked(self, where: Filter | None, order: Order, *, limit: int, offset: int) -> list[tuple[SortKey, str]]:
        """Settled runs that match `where`, sorted by `order`, as pairs of sort key and id."""
        page = f"{in_order(order)} LIMIT {limit} OFFSET {offset}"
        return self._ask_runs(
            lambda value, run_id: (key_of(order, value, run_id), run_id), f"{order.by}, run_id", where, page
        )

    def every_ranked(self, where: Filter | None, order: Order) -> Iterator[tuple[SortKey, str]]:
        """All settled runs that match `where`, as `ranked` returns them, fetched page by page."""
        offset = 0
        while page := self.ranked(where, order, limit=2 * _PAGE, offset=offset):
            yield from page
            offset += len(page)

    def settled(self, where: Filter | None) -> Iterator[list[PartOfFile]]:
        """Parts of the settled runs that match `where`, one list for each run."""
        after = ""
        while True:
            conditions = self._conditions(where)
            conditions.add("run_id > ?", after)

            def sql(its: Conditions = conditions) -> str:
                some = (
                    f"SELECT id, run_id FROM runs WHERE {its.sql}{self._in_files('file')} ORDER BY run_id LIMIT {_PAGE}"
                )
                return f"SELECT some.run_id, file, part FROM ({some}) some JOIN parts ON parts.run = some.id ORDER BY 1"

            rows = self._index.ask(self._part, sql, conditions.values, conditions.functions)
            for run_id, its in groupby(rows, itemgetter(0)):
                after = run_id
                if found := self._in_order(its):
                    yield found
            if not rows:
                return

    def measured(self, where: Filter | None, *, with_sub_agents: bool) -> list[Measured]:
        """Start, outcome, cost and duration of the settled runs that match `where`."""
        cost, bit = ("cost", 1) if with_sub_agents else ("own_cost", 2)
        names = dict(
            self._index.ask(_pair, lambda: f"SELECT id, text FROM names WHERE kind = {NAMES.index('outcome')}")
        )
        columns = f"started, outcome, {cost}, bounds & {bit}, duration"
        return self._ask_runs(
            lambda started, outcome, cost, bound, duration: (started, names.get(outcome, ""), cost, bound, duration),
            columns,
            where,
            "",
        )

    # --- conversations ---

    def conversations(
        self, where: Filter | None, also: Collection[str], *, among: Collection[str] | None = None, limit: int = -1
    ) -> list[tuple[str, int | None]]:
        """Conversations with settled turns, the latest first: the id, and when the latest settled turn began.

        Args:
            where: Filter; a conversation is taken if the filter takes a settled run of it.
            also: Further conversations to take.
            among: The only conversations to look for; None for all.
            limit: Most conversations; negative for all.
        """
        order = f"GROUP BY conversation ORDER BY max(started) DESC, text DESC LIMIT {limit}"
        return self._ask_conversations(_pair, "text, max(started)", where, also, among, order)

    def count_conversations(self, where: Filter | None, also: Collection[str]) -> int:
        """Number of conversations with settled turns, taken as by `conversations`."""
        return sum(self._ask_conversations(int, "count(DISTINCT conversation)", where, also, None, ""))

    def conversations_of(self, run_ids: Collection[str]) -> set[str]:
        """Conversations of those of the runs `run_ids` that are outermost."""
        sql = (
            "SELECT text FROM runs JOIN names ON names.id = conversation WHERE is_outer = 1 AND text != '' "
            "AND run_id IN ({})"
        )
        return {
            text for some in in_lots(run_ids) for text in self._index.ask(str, _made(sql, placeholders(some)), some)
        }

    def turns_of(self, conversation_ids: Collection[str]) -> list[tuple[str, str]]:
        """Outermost runs of conversations, each with the run at its root."""
        sql = (
            "SELECT run_id, ifnull(root, run_id) FROM runs WHERE is_outer = 1 AND conversation IN "
            f"(SELECT id FROM names WHERE kind = {CONVERSATION} AND text IN ({{}}))"
        )
        return [
            pair
            for some in in_lots(conversation_ids)
            for pair in self._index.ask(_pair, _made(sql, placeholders(some)), some)
        ]

    def roots(self, where: Filter, among: Collection[str]) -> set[str]:
        """Root runs `among` the given ones whose tree contains a settled run that matches `where`."""
        if not among:
            return set()
        its = self._conditions(where)
        its.functions["is_among"] = lambda run_id: run_id in among
        return set(
            self._index.ask(
                str,
                lambda: (
                    f"SELECT DISTINCT ifnull(root, run_id) FROM runs WHERE {its.sql}{self._in_files('file')} "
                    f"AND is_among(ifnull(root, run_id))"
                ),
                its.values,
                its.functions,
            )
        )

    def _ask_conversations(
        self,
        make: Any,
        columns: str,
        where: Filter | None,
        also: Collection[str],
        among: Collection[str] | None,
        more: str,
    ) -> list[Any]:
        its = self._conditions(where)
        its.functions |= {"is_also": lambda text: text in also, "is_among": lambda text: text in (among or ())}

        def sql() -> str:
            files = self._in_files("file")
            taken = ""
            if where is not None:
                turns = f"SELECT conversation FROM runs WHERE is_outer = 1 AND {its.sql}{files}"
                roots = f"SELECT ifnull(root, run_id) FROM runs WHERE is_outer = 0 AND {its.sql}{files}"
                others = f"SELECT conversation FROM runs WHERE is_outer = 1 AND run_id IN ({roots})"
                taken = f" AND (conversation IN ({turns} UNION {others}) OR is_also(text))"
            narrowed = "" if among is None else " AND is_among(text)"
            return (
                f"SELECT {columns} FROM runs JOIN names ON names.id = conversation "
                f"WHERE outcome IS NOT NULL AND is_outer = 1 AND text != ''{files}{taken}{narrowed} {more}"
            )

        return self._index.ask(make, sql, [*its.values, *its.values] if where is not None else (), its.functions)

    # --- names ---

    def names(self) -> dict[int, list[str]]:
        """Names of agents, models and tools of the settled runs, by kind, in stored form."""
        return {
            kind: self._index.ask(
                str,
                lambda kind=kind: (  # type: ignore[misc]
                    f"SELECT text FROM names WHERE id IN (SELECT {NAMES[kind]} FROM runs WHERE "
                    f"outcome IS NOT NULL{self._in_files('file')})"
                ),
            )
            for kind in (AGENT, MODELS, TOOLS)
        }

    # --- all runs ---

    def unsettled(self) -> list[str]:
        """Ids of the runs that are not settled."""

        def sql() -> str:
            found = f"SELECT run_id FROM runs WHERE outcome IS NULL{self._in_files('file', or_several=True)}"
            return found if self._index.is_whole else f"{found} UNION SELECT run_id FROM runs WHERE file IS NULL"

        return list({*self._index.ask(str, sql), *self._elsewhere})

    def parts(self, run_ids: Iterable[str]) -> list[PartOfFile]:
        """Parts of the runs `run_ids`, each with its file."""
        sql = "SELECT run_id, parts.file, part FROM runs JOIN parts ON parts.run = runs.id WHERE run_id IN ({})"
        rows = [
            row
            for some in in_lots(run_ids)
            for row in self._index.ask(self._part, _made(sql, placeholders(some)), some)
        ]
        return self._in_order(rows)

    def ids(self) -> Iterator[str]:
        """Ids of all runs, in order."""
        after = ""
        while page := self._index.ask(
            str, lambda: f"SELECT run_id FROM runs WHERE run_id > ? ORDER BY run_id LIMIT {20 * _PAGE}", [after]
        ):
            yield from page
            after = page[-1]

    def with_prefix(self, prefix: str) -> list[tuple[str, str]]:
        """Runs whose id begins with `prefix`, each with the id of its root run."""
        sql = "SELECT run_id, ifnull(root, run_id) FROM runs WHERE run_id >= ? AND run_id < ?"
        return self._index.ask(_pair, lambda: sql, [prefix, prefix + chr(0x10FFFF)])

    def of_trees(self, roots: Iterable[str]) -> set[str]:
        """Ids of the runs whose root is in `roots`, including the roots."""
        sql = "SELECT run_id FROM runs WHERE root IN ({0}) UNION SELECT run_id FROM runs WHERE run_id IN ({0})"
        return {
            run_id
            for some in in_lots(roots)
            for run_id in self._index.ask(str, _made(sql, placeholders(some)), [*some, *some])
        }

    def called(self, trace: str | bytes, is_called: Any) -> list[str]:
        """Ids of the runs of a trace, and of the runs for which `is_called` returns True."""
        sql = "SELECT run_id FROM runs WHERE trace = ? OR is_called(run_id)"
        return self._index.ask(str, lambda: sql, [trace], {"is_called": is_called})

    # --- implementation ---

    def _conditions(self, where: Filter | None) -> Conditions:
        conditions = Conditions(where)
        if self._elsewhere:
            conditions.functions["is_here_alone"] = lambda run_id: run_id not in self._elsewhere
            conditions.add("is_here_alone(run_id)")
        return conditions

    def _ask_runs(self, make: Any, columns: str, where: Filter | None, more: str) -> list[Any]:
        its = self._conditions(where)
        return self._index.ask(
            make,
            lambda: f"SELECT {columns} FROM runs WHERE {its.sql}{self._in_files('file')} {more}",
            its.values,
            its.functions,
        )

    def _in_files(self, column: str, *, or_several: bool = False) -> str:
        """SQL condition that limits `column` to the queried files; empty if all files are queried."""
        if self._index.is_whole:
            return ""
        numbers = ", ".join(map(str, self._index.files))
        return f" AND ({column} IN ({numbers}){f' OR {column} IS NULL' if or_several else ''})"

    def _part(self, run_id: str, file: int, data: bytes) -> tuple[str, int, RunPart]:
        return run_id, file, self._index.part(data)

    def _in_order(self, rows: Iterable[tuple[str, int, RunPart]]) -> list[PartOfFile]:
        files = self._index.files
        places = {number: place for place, number in enumerate(files)}
        found = sorted(((places[file], part) for _, file, part in rows if file in files), key=itemgetter(0))
        every = list(files.values())
        return [(every[place], part) for place, part in found]


def _made(sql: str, *values: str) -> Any:
    made = sql.format(*values)
    return lambda: made


def _pair(one: Any, other: Any) -> tuple[Any, Any]:
    return one, other
