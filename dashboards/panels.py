"""The kinds of panels on the boards, and what all panels have in common.

Everything a reader of a panel needs comes with it: a description, a unit, what is too much, and words for emptiness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, TypeAlias

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.queries import Expr, Scope, Series, of_leaders, of_the_rest
from sidestream.events.outcomes import OUTCOMES, Verdict

Panel: TypeAlias = Builder[model.Panel]
Steps: TypeAlias = Sequence[tuple[float | None, str]]
"""Colours, each from a value on; the first from None, the lowest."""

GREEN, YELLOW, RED, NEUTRAL = "green", "#EAB839", "red", "#5794F2"

SHADES: Mapping[Verdict, Sequence[str]] = {
    "ok": ("green", "dark-green"),
    "fault": ("red", "dark-red", "light-red", "semi-dark-red"),
    "caller": ("blue", "purple", "light-purple", "light-blue"),
    "neutral": (YELLOW, "orange", "dark-orange", "dark-yellow", "light-yellow", "light-orange"),
}
"""Red is a fault, blue and purple a caller's choice."""


def _colors_of_outcomes() -> dict[str, str]:
    shades = {verdict: cycle(colors) for verdict, colors in SHADES.items()}
    return {name: next(shades[outcome.verdict]) for name, outcome in OUTCOMES.items()}


OUTCOME_COLORS = _colors_of_outcomes()
FAILED = "failed"
"""Legend of a share or rate of failures."""
REST = "rest"
"""Legend of what is beyond the leaders of a chart."""
FIXED_COLORS = {**OUTCOME_COLORS, "given up by the caller": "blue", REST: "#8e8e9a"}
"""Of series that mean the same on every board, by legend."""

NO_JUDGEMENT: Steps = ((None, NEUTRAL),)
"""For quantities that are neither good nor bad: how many runs, which models."""
NONE_IS_GOOD: Steps = ((None, GREEN), (1, RED))


def above(warn: float, bad: float) -> Steps:
    """The higher the worse."""
    return ((None, GREEN), (warn, YELLOW), (bad, RED))


def below(bad: float, warn: float) -> Steps:
    """The lower the worse."""
    return ((None, RED), (bad, YELLOW), (warn, GREEN))


SOURCE = common_model.DataSourceRef(type_val="prometheus", uid="${datasource}")

BOARD = Scope(
    always={"job": "=~$job", "instance": "=~$instance"},
    where_present={
        "agent": "=~$agent",
        "gen_ai_agent_name": "=~$agent",
        "model": "=~$model",
        "gen_ai_request_model": "=~$model",
    },
)
"""What the panels of every board are bound to."""
TARGETS = Scope(always=BOARD.always)
"""For panels about the sidecars themselves, which have no agent or model."""


@dataclass(frozen=True)
class Query:
    expr: Expr
    legend: str = ""
    exemplars: bool = False
    """Show the runs behind the values as dots that lead to the trace and to the log."""


def ranked(expr: Expr, by: Series, label: str, *, legend: str = "", adds_up: bool = True) -> list[Query]:
    """Queries of a chart with a line for each value of `label`: the leaders, and the rest, for there may be hundreds.

    Args:
        by: The counter (or histogram) whose growth ranks them.
        legend: Of a leader; the value of the label unless given.
        adds_up: Whether the sum of the others means something, as it does for rates and not for quantiles.
    """
    leaders = by.leaders(label)
    queries = [Query(of_leaders(expr, label, leaders), legend or f"{{{{{label}}}}}", exemplars="_bucket" in expr)]
    return [*queries, Query(of_the_rest(expr, label, leaders), REST)] if adds_up else queries


# --- kinds of panels -----------------------------------------------------------------------------------------------


_LEAST = {"percentunit": 0.1, "currencyUSD": 0.01}


def lines(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    steps: Steps = NO_JUDGEMENT,
    empty: str = "Nothing in this time range",
    width: int = 8,
    stacked: bool = False,
    links: Sequence[dashboard.DashboardLink] = (),
) -> Panel:
    """Values over time."""
    panel = (
        timeseries.Panel()
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_model.LegendDisplayMode.LIST)
            .placement(common_model.LegendPlacement.BOTTOM)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_model.TooltipDisplayMode.MULTI)
            .sort(common_model.SortOrder.DESCENDING)
        )
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC))
        .min(0)
        # The least height of the axis. Without it, a line at zero has an axis to 100, or to 10,000 %.
        .axis_soft_max(steps[1][0] if len(steps) > 1 and steps[1][0] else _LEAST.get(unit, 1))
        .line_width(1)
        .fill_opacity(25 if stacked else 0)
        .show_points(common_model.VisibilityMode.AUTO)
        .data_links(list(links))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))
    legends = {query.legend for query in queries}
    for legend, color in FIXED_COLORS.items():
        if legend in legends or ("{{outcome}}" in legends and legend in OUTCOME_COLORS):
            fixed = {"mode": "fixed", "fixedColor": color}
            panel.override_by_name(legend, [model.DynamicConfigValue("color", fixed)])
    if len(steps) > 1:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED))
    return _finished(panel, title, description, unit, steps, empty, width, 8, [_over_time(q) for q in queries])


def number(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    steps: Steps = NO_JUDGEMENT,
    empty: str = "–",
    width: int = 4,
    height: int = 4,
    decimals: int | None = None,
    empty_color: str = "text",
    links: Sequence[dashboard.DashboardLink] = (),
) -> Panel:
    """One value, or a few, as of the end of the time range. Without one, it shows `empty` in `empty_color`."""
    nothing = model.DashboardSpecialValueMapOptions(
        match=model.SpecialValueMatch.NULL_AND_NAN, result=model.ValueMappingResult(text=empty, color=empty_color)
    )
    panel = (
        stat.Panel()
        .mappings([model.SpecialValueMap(nothing)])  # else it has the colour of the lowest step, which may be green
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(common_model.BigValueColorMode.VALUE)
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .data_links(list(links))
    )
    if decimals is not None:
        panel.decimals(decimals)
    return _finished(panel, title, description, unit, steps, empty, width, height, [_at_the_end(q) for q in queries])


def bars(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str,
    steps: Steps = NO_JUDGEMENT,
    empty: str = "Nothing in this time range",
    width: int = 8,
    decimals: int | None = None,
    links: Sequence[dashboard.DashboardLink] = (),
) -> Panel:
    """A ranking."""
    panel = (
        bargauge.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .orientation(common_model.VizOrientation.HORIZONTAL)
        .display_mode(common_model.BarGaugeDisplayMode.BASIC)
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .min(0)
        .data_links(list(links))
    )
    if decimals is not None:
        panel.decimals(decimals)
    return _finished(panel, title, description, unit, steps, empty, width, 8, [_at_the_end(query)])


def heat(
    title: str,
    description: str,
    expr: Expr,
    *,
    empty: str = "Nothing was streamed in this time range",
    width: int = 12,
) -> Panel:
    """How the buckets of a histogram of seconds fill over time; `expr` is `sum by (le)`."""
    panel = (
        heatmap.Panel()
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_model.HeatmapColorMode.SCHEME)
            .scheme("Blues")
            .fill("dark-blue")
            .exponent(0.5)
            .steps(64)
            .reverse(False)
        )
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .exemplars_color("rgba(255,120,10,0.8)")
        .show_legend()
    )
    query = (
        prometheus.Dataquery().expr(expr).legend_format("{{le}}").format(PromQueryFormat.HEATMAP).exemplar(True).range()
    )
    return _finished(panel, title, description, "s", NO_JUDGEMENT, empty, width, 8, [query])


@dataclass(frozen=True)
class Column:
    """A column of numbers in a table; `expr` has one value for each key of the table."""

    title: str
    expr: Expr
    unit: str
    steps: Steps = NO_JUDGEMENT
    decimals: int | None = None
    missing: str = "–"
    """What a cell shows that has no value."""


def count(title: str, expr: Expr, steps: Steps = NO_JUDGEMENT) -> Column:
    """A column of whole numbers. (`increase` estimates, and has fractions even of what has none.)"""
    return Column(title, expr, "short", steps, decimals=0)


def listing(
    title: str,
    description: str,
    *columns: Column,
    keys: Mapping[str, str],
    width: int = 12,
    links: Mapping[str, Sequence[dashboard.DashboardLink]] | None = None,
) -> Panel:
    """A table over the time range, a row for each value of the labels in `keys` (label to column title).

    The first column of numbers is the one it is sorted by. `links` are those of the cells of a key, by label.
    """
    letters = [chr(ord("A") + place) for place in range(len(columns))]
    # With one query alone, the column is called `Value`; a second one makes it `Value #A`.
    names = {letter: f"Value #{letter}" if len(columns) > 1 else "Value" for letter in letters}
    titles = {**keys, **{names[letter]: column.title for letter, column in zip(letters, columns, strict=True)}}
    panel = (
        table.Panel()
        .with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            model.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {name: place for place, name in enumerate(titles)},
                    "renameByName": titles,
                },
            )
        )
        .sort_by([common.TableSortByFieldState().display_name(columns[0].title).desc(True)])
    )
    for column in columns:
        style = "color-text" if len(column.steps) > 1 else "auto"
        properties = {
            "unit": column.unit,
            "decimals": column.decimals,
            "thresholds": thresholds(column.steps).build(),
            "custom.cellOptions": {"type": style},
            "noValue": column.missing,
        }
        panel.override_by_name(
            column.title,
            [model.DynamicConfigValue(name, value) for name, value in properties.items() if value is not None],
        )
    for heading in keys.values():
        blank = model.ValueMap({"": model.ValueMappingResult(text="–")}).to_json()
        panel.override_by_name(heading, [model.DynamicConfigValue("mappings", [blank])])
    for label, targets in (links or {}).items():
        cell_links = model.DynamicConfigValue("links", [link.build() for link in targets])
        panel.override_by_name(keys[label], [cell_links])
    queries = [prometheus.Dataquery().expr(column.expr).format(PromQueryFormat.TABLE).instant() for column in columns]
    return _finished(panel, title, description, columns[0].unit, columns[0].steps, "–", width, 8, queries)


def _over_time(query: Query) -> prometheus.Dataquery:
    built = prometheus.Dataquery().expr(query.expr).legend_format(query.legend or "__auto").range()
    return built.exemplar(True) if query.exemplars else built


def _at_the_end(query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend or "__auto").instant()


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=color) for value, color in steps])
    )


def _finished(
    panel: Any,
    title: str,
    description: str,
    unit: str,
    steps: Steps,
    empty: str,
    width: int,
    height: int,
    queries: Sequence[prometheus.Dataquery],
) -> Panel:
    for letter, query in zip("ABCDEFGHIJ", queries, strict=False):
        panel.with_target(query.ref_id(letter).datasource(SOURCE))
    asked = " ".join(query.build().expr for query in queries)
    ignored = [name for name in ("agent", "model") if f"${name}" not in asked]
    if len(ignored) == 1:  # with both it is about sidecars, not about agents
        description += f" The choice of {ignored[0]}s above does not narrow it."
    finished: Panel = (
        panel.title(title)
        .description(description)
        .unit(unit)
        .thresholds(thresholds(steps))
        .no_value(empty)
        .datasource(SOURCE)
        .span(width)
        .height(height)
    )
    return finished
