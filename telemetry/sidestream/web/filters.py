"""Filters, order and page number of the lists, parsed from the query string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request

from sidestream.errors import ConfigurationError
from sidestream.log import Filter, Order

FIELDS = ("agent", "model", "tool", "outcome", "tag", "conversation", "since", "until", "min_cost", "slower", "score")
PRESETS = (("1 hour", "1h"), ("today", "today"), ("24 hours", "24h"), ("7 days", "7d"), ("30 days", "30d"))
"""Time ranges offered as links: label and value of `since`."""

_T = TypeVar("_T")


class PageOf(NamedTuple):
    """Page of a list."""

    number: int
    """Page number, from 1."""
    size: int
    """Items per page."""

    @property
    def offset(self) -> int:
        """Number of items on earlier pages."""
        return (self.number - 1) * self.size

    def within(self, every: Sequence[_T]) -> Sequence[_T]:
        """Items of `every` on this page."""
        return every[self.offset : self.offset + self.size]

    def pages(self, total: int) -> int:
        """Number of pages for `total` items, at least 1."""
        return max(1, -(-total // self.size))


def page_of(request: Request, size: int) -> PageOf:
    """Page requested by `?page=`; the first if the parameter is missing or invalid."""
    text = request.query_params.get("page", "")
    return PageOf(max(1, int(text)) if text.isascii() and text.isdecimal() and len(text) < 10 else 1, size)


def filter_of(request: Request) -> Filter:
    """Filter requested by the query string. Raises `ConfigurationError` for an invalid value."""
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
    """Filter requested by the query string, and an empty text; for an invalid value, a filter that matches every run,
    and the error message."""
    try:
        return filter_of(request), ""
    except ConfigurationError as error:
        return Filter(), str(error)


def order_of(request: Request) -> Order:
    """Order requested by the query string; newest first if missing or invalid."""
    ascending = request.query_params.get("order") == "up"
    try:
        return Order(by=Order.parse(request.query_params.get("sort") or "started").by, ascending=ascending)
    except ConfigurationError:
        return Order(ascending=ascending)


def is_filtered(request: Request) -> bool:
    """Whether the query string has a filter."""
    return any(value.strip() for name in FIELDS for value in request.query_params.getlist(name))


def runs_with_score(test: str) -> str:
    """URL of the list of runs, sub-agents included, whose scores match `test`."""
    return "/?" + urlencode({"score": test, "runs": "all"})


def link(request: Request, **changes: object) -> str:
    """Query string of this page with `changes`; None removes a parameter."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in changes and value]
    return "?" + urlencode([*kept, *((name, str(value)) for name, value in changes.items() if value is not None)])
