"""PromQL from the table of metrics: a name, label or outcome-bearing series that the table lacks cannot be asked for.

A `Scope` says which labels every selector is bound to: the variables of a board, or nothing in rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sidestream.metrics.definitions import BY_NAME, Metric

Expr: TypeAlias = str
Match: TypeAlias = str
"""Value of a label, with the operator in front: `=error`, `!=ok`, `=~a|b`."""

RANGE = "$__range"
"""The time range of the board."""
RANGE_SECONDS = "$__range_s"
RATE = "$__rate_interval"
"""Grafana's own: long enough for a rate at the current zoom and scrape interval."""

TOP = 10
"""Agents, models or tools that a chart draws apart; what is beyond is drawn as one."""

TARGET_LABELS = ("job", "instance")
"""Put on every series by Prometheus."""

WATCHED = "1d"
"""For how long back a series or target is looked for that may be new: longer than any gap between scrapes."""


@dataclass(frozen=True)
class Scope:
    """Selectors bound to the same label matchers."""

    always: Mapping[str, Match] = field(default_factory=dict)
    """On every selector."""
    where_present: Mapping[str, Match] = field(default_factory=dict)
    """On the selectors of metrics that have the label."""

    def __getitem__(self, name: str) -> Series:
        """The metric `name` of the table, in this scope.

        Raises:
            LookupError: there is no such metric.
        """
        if name not in BY_NAME:
            raise LookupError(f"there is no metric {name!r} in sidestream.metrics.definitions.METRICS")
        return Series(BY_NAME[name], self)


@dataclass(frozen=True)
class Series:
    """A metric, and the queries that can be made of it. `by` names labels; keyword arguments match them."""

    metric: Metric
    scope: Scope

    def select(self, suffix: str = "", **match: Match) -> Expr:
        """The selector, of the `_bucket`, `_sum` or `_count` of a histogram if `suffix` says so."""
        self._check(match)
        name = self.metric.name + suffix
        if name not in self.metric.series:
            raise LookupError(f"{self.metric.name} has no series {name}; it has {', '.join(self.metric.series)}")
        present = {label: value for label, value in self.scope.where_present.items() if label in self.metric.labels}
        matchers = [_matcher(label, value) for label, value in {**self.scope.always, **present, **match}.items()]
        return f"{name}{{{','.join(matchers)}}}" if matchers else name

    def rate(self, *by: str, suffix: str = "", window: str = RATE, **match: Match) -> Expr:
        """Per second."""
        return self._sum(by, f"rate({self.select(suffix, **match)}[{window}])")

    def total(self, *by: str, suffix: str = "", window: str = RANGE, **match: Match) -> Expr:
        """How much came in `window`, the first value of a new series included.

        A counter appears with the first thing it counts. `increase` starts from there and would leave that out: all of
        the cost of a program that makes one request. A series is new if nothing is known of it from before, and either
        its program began in `window`, or Prometheus watched its program before. So nothing that is old counts as growth
        after a gap in the scrapes, or in a Prometheus made anew.
        """
        series, start = self.select(suffix, **match), self.scope["sidestream_start_time_seconds"].select()
        seconds = RANGE_SECONDS if window == RANGE else f"{_seconds(window)}"
        grown = f"increase({series}[{window}])"
        first = f"min_over_time({series}[{window}]) unless present_over_time({series}[{WATCHED}] offset {window})"
        began = f"last_over_time({start}[{window}]) > time() - {seconds}"
        watched = f"present_over_time({start}[{WATCHED}] offset {window})"
        target = ", ".join(TARGET_LABELS)
        return self._sum(by, f"{grown} + ({first} and on ({target}) ({began} or {watched})) or {grown}")

    def previous(self, *by: str, suffix: str = "", **match: Match) -> Expr:
        """How much came in the period before the board's time range."""
        return self._sum(by, f"increase({self.select(suffix, **match)}[{RANGE}] offset {RANGE})")

    def increase(self, *by: str, suffix: str = "", window: str = RANGE, **match: Match) -> Expr:
        """How much came in `window`, to compare with `previous` or to draw."""
        return self._sum(by, f"increase({self.select(suffix, **match)}[{window}])")

    def now(self, *by: str, aggregate: str = "sum", **match: Match) -> Expr:
        """The current value of a gauge. (That of a counter only says when its process started.)"""
        if self.metric.kind != "gauge":
            raise LookupError(f"{self.metric.name} is a {self.metric.kind}, not a gauge: ask for its rate or total")
        return _aggregated(aggregate, self._checked(by), self.select(**match))

    def quantile(self, q: float, *by: str, window: str = RATE, **match: Match) -> Expr:
        """Quantile `q` of a histogram."""
        buckets = self.rate("le", *by, suffix="_bucket", window=window, **match)
        return f"histogram_quantile({q:g}, {buckets})"

    def leaders(self, label: str, count: int = TOP) -> Expr:
        """The `count` values of `label` that grew most in the board's time range: the same ones all along a chart."""
        suffix = "_count" if self.metric.kind == "histogram" else ""
        if self.metric.kind == "gauge":
            raise LookupError(f"{self.metric.name} is a gauge: rank by a counter")
        grown = self._sum((label,), f"increase({self.select(suffix)}[{RANGE}] @ end())")
        return f"topk({count}, {grown})"

    def mean(self, *by: str, window: str = RANGE, **match: Match) -> Expr:
        """Of a histogram, over all it has seen in `window`: a ratio of sums, never a mean of means."""
        return over(
            self._sum(by, f"rate({self.select('_sum', **match)}[{window}])"),
            self._sum(by, f"rate({self.select('_count', **match)}[{window}])"),
        )

    def _sum(self, by: tuple[str, ...], inner: Expr) -> Expr:
        return _aggregated("sum", self._checked(by), inner)

    def _checked(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        self._check(dict.fromkeys(labels, "="))
        return labels

    def _check(self, labels: Mapping[str, Match]) -> None:
        known = {*self.metric.labels, *TARGET_LABELS, *(["le"] if self.metric.kind == "histogram" else [])}
        if unknown := set(labels) - known:
            raise LookupError(
                f"{self.metric.name} has no label {', '.join(unknown)}; it has {', '.join(sorted(known))}"
            )


def _seconds(window: str) -> int:
    return int(window[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[window[-1]]


def over(part: Expr, whole: Expr) -> Expr:
    """`part` divided by `whole`, for each of their labels. Nothing where the whole is zero."""
    return f"{part} / ({whole} > 0)"


def share(part: Expr, whole: Expr) -> Expr:
    """The same for a part that is missing while nothing of its kind has happened: 0 then."""
    return f"({none_of(part, of=whole)}) / ({whole} > 0)"


def none_of(part: Expr, *, of: Expr) -> Expr:
    """`part`, or 0 for those labels of the whole that have no such part."""
    return f"{part} or {of} * 0"


def or_zero(expr: Expr, **labels: str) -> Expr:
    """0, with `labels`, where there is nothing: for what is only counted once it happens."""
    zero = "vector(0)"
    for label, value in labels.items():
        zero = f'label_replace({zero}, "{label}", "{value}", "", "")'
    return f"{expr} or on () {zero}"


def of_leaders(expr: Expr, label: str, leaders: Expr) -> Expr:
    """`expr`, for those values of `label` that lead."""
    return f"({expr}) and on ({label}) {leaders}"


def of_the_rest(expr: Expr, label: str, leaders: Expr) -> Expr:
    """The sum of `expr` over the values of `label` that do not lead. Nothing where all lead."""
    return f"sum(({expr}) unless on ({label}) {leaders})"


def since(moment: Expr) -> Expr:
    """Seconds since a Unix time. The clock of the program may be a little ahead of that of Prometheus."""
    return f"clamp_min(time() - {moment}, 0)"


def top(count: int, expr: Expr) -> Expr:
    return f"topk({count}, {expr})"


def _aggregated(operator: str, by: tuple[str, ...], inner: Expr) -> Expr:
    return f"{operator} by ({', '.join(by)}) ({inner})" if by else f"{operator}({inner})"


def _matcher(label: str, value: Match) -> str:
    operator = next(each for each in ("=~", "!~", "!=", "=") if value.startswith(each))
    return f'{label}{operator}"{value[len(operator) :]}"'
