"""SQL for queries to an index: conditions of a filter, and sort order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from sidestream.log.runs.filters import Filter, Order, has_tags, is_named, matches_any

from .parts import ScoreFacts
from .rows import AGENT, CONVERSATION, MODELS, NAMES, OUTCOME, SCORES, TAGS, TOOLS, Value, microseconds

SortKey: TypeAlias = tuple[bool, float, str]

names_in = msgspec.json.Decoder(list[str]).decode
"""Decoder of the names in the text of models or tools."""
_tags = msgspec.json.Decoder(dict[str, str]).decode
_scores = msgspec.json.Decoder(list[ScoreFacts]).decode


class Conditions:
    """SQL conditions on rows of `runs` that select exactly the ended runs matching a filter.

    Names are compared in Python, as `Filter.matches` does, once for each distinct name instead of once for each run.
    """

    def __init__(self, where: Filter | None) -> None:
        self.sql = "outcome IS NOT NULL"
        self.values: list[Value] = []
        self.functions: dict[str, Callable[[str], bool]] = {}
        """Python functions called in the SQL, by name."""
        if where is not None:
            self._add_filter(where)

    def add(self, condition: str, *values: Value) -> None:
        self.sql += f" AND {condition}"
        self.values += values

    def _add_filter(self, where: Filter) -> None:
        if where.outermost:
            self.add("is_outer = 1")
        if where.since is not None:
            self.add("started >= ?", microseconds(where.since))
        if where.until is not None:
            self.add("started < ?", microseconds(where.until))
        if where.min_cost is not None:
            self.add("cost >= ?", where.min_cost)
        if where.slower is not None:
            self.add("duration >= ?", where.slower)
        if where.agents:
            self._add_names(AGENT, lambda text: matches_any([text], where.agents))
        if where.conversations:
            self._add_names(CONVERSATION, lambda text: matches_any([text], where.conversations))
        if where.models:
            self._add_names(MODELS, lambda text: matches_any(names_in(text), where.models))
        if where.tools:
            self._add_names(TOOLS, lambda text: matches_any(names_in(text), where.tools))
        if where.tags:
            self._add_names(TAGS, lambda text: has_tags(_tags(text), where.tags))
        if where.min_attempt is not None:
            self.add("attempt >= ?", where.min_attempt)
        if where.attempts_of:
            self.functions["takes_attempt_of"] = lambda text: is_named(text, where.attempts_of)
            self.add("attempt_of IS NOT NULL AND takes_attempt_of(attempt_of)")
        if where.scores:
            self._add_names(SCORES, lambda text: all(test.matches(_scores(text)) for test in where.scores))
        if where.outcomes:
            self._add_names(OUTCOME, lambda text: text in where.outcomes)

    def _add_names(self, kind: int, takes: Callable[[str], bool]) -> None:
        name = f"takes_{NAMES[kind]}"
        self.functions[name] = takes
        self.add(f"{NAMES[kind]} IN (SELECT id FROM names WHERE kind = {kind} AND {name}(text))")


def in_order(order: Order) -> str:
    """`ORDER BY` clause for rows of `runs`: unknown values last, ties by id."""
    column = order.by  # the sort names are the column names
    # SQLite sorts nulls first, and has no NULLS LAST before version 3.30.
    return f"ORDER BY {f'{column} IS NULL, {column}' if order.ascending else f'{column} DESC'}, run_id"


def key_of(order: Order, value: Any, run_id: str) -> SortKey:
    """`Order.key` of the run that has `value` in the column of `order`."""
    if value is None:
        return (True, 0.0, run_id)
    if order.by == "started":
        value = value / 10**6
    return (False, value if order.ascending else -value, run_id)
