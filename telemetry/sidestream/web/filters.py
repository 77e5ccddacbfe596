"""Filters of the lists, as the query of an address has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request

from sidestream.errors import ConfigurationError
from sidestream.log import Filter, Order

FIELDS = ("agent", "model", "tool", "outcome", "tag", "conversation", "since", "until", "min_cost", "slower", "score")
PRESETS = (("1 hour", "1h"), ("today", "today"), ("24 hours", "24h"), ("7 days", "7d"), ("30 days", "30d"))
"""Ranges of time that are a click away."""

_T = TypeVar("_T")


class PageOf(NamedTuple):
    """Which part of a list a page shows."""

    number: int
    """1 for the first."""
    size: int

    @property
    def offset(self) -> int:
        """How many stand before."""
        return (self.number - 1) * self.size

    def within(self, every: Sequence[_T]) -> Sequence[_T]:
        """What this page shows of `every`."""
        return every[self.offset : self.offset + self.size]

    def pages(self, total: int) -> int:
        """How many pages there are of `total`."""
        return max(1, -(-total // self.size))


def page_of(request: Request, size: int) -> PageOf:
    """The page that the query asks for; the first where it asks for none that could be."""
    text = request.query_params.get("page", "")
    return PageOf(max(1, int(text)) if text.isascii() and text.isdecimal() and len(text) < 10 else 1, size)


def filter_of(request: Request) -> Filter:
    """The filter that the query asks for. Raises `ConfigurationError` for what cannot be meant."""
    query = request.query_params

    def given(name: str) -> list[str]:
        return [value.strip() for value in query.getlist(name) if value.strip()]

    def last(name: str) -> str | None:
        return next(iter(given(name)), None)

    return Filter.parse(
        since=last("since"),
        until=last("until"),
        agents=given("agent"),
        models=given("model"),
        outcomes=given("outcome"),
        tags=given("tag"),
        conversations=given("conversation"),
        tools=given("tool"),
        min_cost=last("min_cost"),
        slower=last("slower"),
        scores=given("score"),
    )


def filter_or_problem(request: Request) -> tuple[Filter, str]:
    """The filter that the query asks for, and an empty text; the filter that takes all where it cannot be meant, and
    why."""
    try:
        return filter_of(request), ""
    except ConfigurationError as error:
        return Filter(), str(error)


def order_of(request: Request) -> Order:
    """The order that the query asks for; the newest first where it asks for none."""
    ascending = request.query_params.get("order") == "up"
    try:
        return Order(by=Order.parse(request.query_params.get("sort") or "started").by, ascending=ascending)
    except ConfigurationError:
        return Order(ascending=ascending)


def is_filtered(request: Request) -> bool:
    """Whether the query asks for some runs and not for all."""
    return any(value.strip() for name in FIELDS for value in request.query_params.getlist(name))


def runs_with_score(test: str) -> str:
    """Address of the list of all runs, sub-agents included, whose scores pass `test`."""
    return "/?" + urlencode({"score": test, "runs": "all"})


def link(request: Request, **changes: object) -> str:
    """Address of this page with other values in its query; None takes one out."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in changes and value]
    return "?" + urlencode([*kept, *((name, str(value)) for name, value in changes.items() if value is not None)])
