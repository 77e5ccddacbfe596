"""PromQL built from the table of metrics, which rejects unknown metrics, labels and series.

A `Scope` adds label matchers to every selector: the variables of a board, or none for rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sidestream.metrics.definitions import BY_NAME, Metric

Expr: TypeAlias = str
Match: TypeAlias = str
"""Operator and value of a label matcher: `=error`, `!=ok`, `=~a|b`."""

RANGE = "$__range"
"""Grafana's variable for the board's time range."""
RANGE_SECONDS = "$__range_s"
RATE = "$__rate_interval"
"""Grafana's variable for a window that suits a rate at the current zoom and scrape interval."""

TOP = 10
"""Agents, models or tools with a line of their own in a chart; the rest is summed."""

TARGET_LABELS = ("job", "instance")
"""Labels that Prometheus adds to every series."""

WATCHED = "1d"
"""Look-back window that decides whether a series or target is new; longer than any gap between scrapes."""


@dataclass(frozen=True)
class Scope:
    """Label matchers shared by several selectors."""

    always: Mapping[str, Match] = field(default_factory=dict)
    """Matchers of every selector."""
    where_present: Mapping[str, Match] = field(default_factory=dict)
    """Matchers of the selectors whose metric has the label."""

    def __getitem__(self, name: str) -> Series:
        """Metric `name` of the table, in this scope.

        Raises:
            LookupError: The table has no such metric.
        """
        if name not in BY_NAME:
            raise LookupError(f"there is no metric {name!r} in sidestream.metrics.definitions.METRICS")
        return Series(BY_NAME[name], self)


@dataclass(frozen=True)
class Series:
    """Metric in a scope, with methods that build queries. `by` lists the labels to group by; keyword arguments are
    matchers. Unknown labels raise `LookupError`."""

    metric: Metric
    scope: Scope

    def select(self, suffix: str = "", **match: Match) -> Expr:
        """Selector of the metric; of a histogram's `_bucket`, `_sum` or `_count` series with that `suffix`."""
        self._check(match)
        name = self.metric.name + suffix
        if name not in self.metric.series:
            raise LookupError(f"{self.metric.name} has no series {name}; it has {', '.join(self.metric.series)}")
        return f"{name}{self._matchers(match)}"

    def _matchers(self, match: Mapping[str, Match]) -> str:
        present = {label: value for label, value in self.scope.where_present.items() if label in self.metric.labels}
        matchers = [_matcher(label, value) for label, value in {**self.scope.always, **present, **match}.items()]
        return f"{{{','.join(matchers)}}}" if matchers else ""

    def rate(self, *by: str, suffix: str = "", window: str = RATE, **match: Match) -> Expr:
        """Rate per second."""
        return self._sum(by, f"rate({self.select(suffix, **match)}[{window}])")

    def total(self, *by: str, suffix: str = "", window: str = RANGE, **match: Match) -> Expr:
        """Increase within `window`, including the first value of a new series.

        A counter appears with its first increment, which `increase` ignores: the whole cost of a program that makes a
        single request. A series counts as new if it has no earlier samples, and its program either started within
        `window` or was scraped before it. Old counts are therefore not taken for growth after a gap in the scrapes, or
        in a new Prometheus.
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
        """Increase in the period of equal length before the board's time range."""
        return self._sum(by, f"increase({self.select(suffix, **match)}[{RANGE}] offset {RANGE})")

    def increase(self, *by: str, suffix: str = "", window: str = RANGE, **match: Match) -> Expr:
        """Increase within `window`, for charts and for comparison with `previous`; see `total` for exact sums."""
        return self._sum(by, f"increase({self.select(suffix, **match)}[{window}])")

    def now(self, *by: str, aggregate: str = "sum", **match: Match) -> Expr:
        """Current value of a gauge. Raises `LookupError` for other kinds, whose value depends on the process's age."""
        if self.metric.kind != "gauge":
            raise LookupError(f"{self.metric.name} is a {self.metric.kind}, not a gauge: ask for its rate or total")
        return _aggregated(aggregate, self._checked(by), self.select(**match))

    def quantile(self, q: float, *by: str, window: str = RATE, **match: Match) -> Expr:
        """Quantile `q` (0 to 1) of a histogram; of the native one where no classic one is stored."""
        buckets = self.rate("le", *by, suffix="_bucket", window=window, **match)
        native = self.native_rate(*by, window=window, **match)
        return f"histogram_quantile({q:g}, {buckets}) or histogram_quantile({q:g}, {native})"

    def native_rate(self, *by: str, window: str = RATE, **match: Match) -> Expr:
        """Rate of a native histogram, whose series has the name of the metric."""
        self._check(match)
        return self._sum(by, f"rate({self.metric.name}{self._matchers(match)}[{window}])")

    def heat(self) -> Expr:
        """Rates by bucket for a heatmap; the native histogram where no classic one is stored."""
        return f"{self.rate('le', suffix='_bucket')} or on () {self.native_rate()}"

    def leaders(self, label: str, count: int = TOP) -> Expr:
        """Series of the `count` values of `label` that grew most in the board's time range, constant along a chart."""
        suffix = "_count" if self.metric.kind == "histogram" else ""
        if self.metric.kind == "gauge":
            raise LookupError(f"{self.metric.name} is a gauge: rank by a counter")
        grown = self._sum((label,), f"increase({self.select(suffix)}[{RANGE}] @ end())")
        return f"topk({count}, {grown})"

    def mean(self, *by: str, window: str = RANGE, **match: Match) -> Expr:
        """Mean of a histogram's observations within `window`: the ratio of the sums, not a mean of means."""
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
    """Ratio of `part` to `whole`, per label set; no value if the whole is zero."""
    return f"{part} / ({whole} > 0)"


def share(part: Expr, whole: Expr) -> Expr:
    """Ratio of `part` to `whole`, 0 for label sets without a part, such as no failures yet."""
    return f"({none_of(part, of=whole)}) / ({whole} > 0)"


def none_of(part: Expr, *, of: Expr) -> Expr:
    """`part`, or 0 for the label sets of the whole that have no part."""
    return f"{part} or {of} * 0"


def or_zero(expr: Expr, **labels: str) -> Expr:
    """`expr`, or 0 with `labels` if `expr` has no value: counters appear with their first increment."""
    zero = "vector(0)"
    for label, value in labels.items():
        zero = f'label_replace({zero}, "{label}", "{value}", "", "")'
    return f"{expr} or on () {zero}"


def of_leaders(expr: Expr, label: str, leaders: Expr) -> Expr:
    """`expr` restricted to the values of `label` in `leaders`."""
    return f"({expr}) and on ({label}) {leaders}"


def of_the_rest(expr: Expr, label: str, leaders: Expr) -> Expr:
    """Sum of `expr` over the values of `label` that are not in `leaders`; no value if all are."""
    return f"sum(({expr}) unless on ({label}) {leaders})"


def since(moment: Expr) -> Expr:
    """Seconds since a Unix time, at least 0: the program's clock may be ahead of Prometheus' clock."""
    return f"clamp_min(time() - {moment}, 0)"


def top(count: int, expr: Expr) -> Expr:
    return f"topk({count}, {expr})"


def _aggregated(operator: str, by: tuple[str, ...], inner: Expr) -> Expr:
    return f"{operator} by ({', '.join(by)}) ({inner})" if by else f"{operator}({inner})"


def _matcher(label: str, value: Match) -> str:
    operator = next(each for each in ("=~", "!~", "!=", "=") if value.startswith(each))
    return f'{label}{operator}"{value[len(operator) :]}"'
