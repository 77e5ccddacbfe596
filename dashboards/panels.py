"""Panel types of the boards.

Every panel has a description, a unit, thresholds, and a text to show without data.
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
"""Thresholds: lower bound and colour of each step, in ascending order; the first bound is None."""

GREEN, YELLOW, RED, NEUTRAL = "green", "#EAB839", "red", "#5794F2"

SHADES: Mapping[Verdict, Sequence[str]] = {
    "ok": ("green", "dark-green"),
    "fault": ("red", "dark-red", "light-red", "semi-dark-red"),
    "caller": ("blue", "purple", "light-purple", "light-blue"),
    "neutral": (YELLOW, "orange", "dark-orange", "dark-yellow", "light-yellow", "light-orange"),
}
"""Colours of outcomes by verdict: red for faults, blue and purple for the caller's decisions."""


def _colors_of_outcomes() -> dict[str, str]:
    shades = {verdict: cycle(colors) for verdict, colors in SHADES.items()}
    return {name: next(shades[outcome.verdict]) for name, outcome in OUTCOMES.items()}


OUTCOME_COLORS = _colors_of_outcomes()
FAILED = "failed"
"""Legend of a share or rate of failures."""
REST = "rest"
"""Legend of the sum of all series beyond the leaders."""
FIXED_COLORS = {**OUTCOME_COLORS, "given up by the caller": "blue", REST: "#8e8e9a"}
"""Colours of series with equal meaning on every board, by legend."""

COUNT = "locale"
"""Unit of whole numbers. `short` without decimals shows 8,213 as 8 K."""
KEY_WIDTH, NUMBER_WIDTH = 120, 80
"""Minimum widths of a table's columns in pixels. Grafana's own 150 hides the last columns of a table of half a row."""

WIDTH_OF_ERRORS = {"error_type": 320}
"""Width of a column of exception types in pixels."""
OF_OUTCOMES = {"{{outcome}}", "{{error_type}}"}
"""Legends whose values are outcomes, or may be."""

NO_JUDGEMENT: Steps = ((None, NEUTRAL),)
"""Steps for quantities that are neither good nor bad, such as the number of runs."""
NONE_IS_GOOD: Steps = ((None, GREEN), (1, RED))
"""Steps for counts that should be zero."""


def above(warn: float, bad: float) -> Steps:
    """Steps for values that are worse the higher they are."""
    return ((None, GREEN), (warn, YELLOW), (bad, RED))


def below(bad: float, warn: float) -> Steps:
    """Steps for values that are worse the lower they are."""
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
"""Scope of all panels: the variables of the board."""
TARGETS = Scope(always=BOARD.always)
"""Scope of panels about the sidecars themselves, whose metrics have no agent or model."""


@dataclass(frozen=True)
class Query:
    expr: Expr
    legend: str = ""
    exemplars: bool = False
    """Whether exemplars are shown, as dots that link to the trace and to the log."""


def ranked(expr: Expr, by: Series, label: str, *, legend: str = "", adds_up: bool = True) -> list[Query]:
    """Queries of a chart with one line for each leading value of `label`, and one for the rest.

    Args:
        expr: Query with the label `label`.
        by: Counter or histogram whose growth ranks the values.
        label: Label whose values are drawn as lines.
        legend: Legend of a leader; the value of the label if empty.
        adds_up: Whether the rest can be summed: True for rates, False for quantiles.
    """
    leaders = by.leaders(label)
    queries = [Query(of_leaders(expr, label, leaders), legend or f"{{{{{label}}}}}", exemplars="_bucket" in expr)]
    return [*queries, Query(of_the_rest(expr, label, leaders), REST)] if adds_up else queries


# --- kinds of panels -----------------------------------------------------------------------------------------------


_LEAST = {"percentunit": 0.1, "currencyUSD": 0.01}


def _least_height(unit: str, steps: Steps) -> float:
    """Minimum height of an axis; without one, a line at zero has an axis up to 100, or 10,000 %.

    Never far above the values: an axis up to a high threshold would flatten the line.
    """
    least = _LEAST.get(unit, 1)
    return min(steps[1][0] or least, least) if len(steps) > 1 else least


def lines(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    steps: Steps = NO_JUDGEMENT,
    empty: str = "Nothing in this time range",
    width: int = 8,
    stacked: bool = False,
    failures: bool = False,
    links: Sequence[dashboard.DashboardLink] = (),
) -> Panel:
    """Time series chart.

    Args:
        title: Title; `description`, `queries`, `unit`, `steps` and `empty` as for every panel.
        width: Columns of the board, of 24.
        stacked: Whether series are stacked.
        failures: Whether series are failures: yellow to red, by the highest value of a series without a fixed colour.
        links: Links of each point.
    """
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
        .color_scheme(
            dashboard.FieldColor()
            .mode(model.FieldColorModeId.CONTINUOUS_YL_RD)
            .series_by(model.FieldColorSeriesByMode.MAX)
            if failures
            else dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC)
        )
        .min(0)
        .axis_soft_max(_least_height(unit, steps))
        .line_width(1)
        .fill_opacity(25 if stacked else 0)
        .show_points(common_model.VisibilityMode.AUTO)
        .data_links(list(links))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))
    legends = {query.legend for query in queries}
    for legend, color in FIXED_COLORS.items():
        if legend in legends or (legends & OF_OUTCOMES and legend in OUTCOME_COLORS):
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
    """Stat panel with the values at the end of the time range; without a value, `empty` in `empty_color`."""
    nothing = model.DashboardSpecialValueMapOptions(
        match=model.SpecialValueMatch.NULL_AND_NAN, result=model.ValueMappingResult(text=empty, color=empty_color)
    )
    panel = (
        stat.Panel()
        .mappings([model.SpecialValueMap(nothing)])  # otherwise Grafana colours it as the lowest step, often green
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
    """Bar gauge that ranks series by their value at the end of the time range."""
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
    """Heatmap of a histogram of seconds over time; `expr` is from `Series.heat`."""
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
    """Number column of a table; `expr` has one value for each key of the table."""

    title: str
    expr: Expr
    unit: str
    steps: Steps = NO_JUDGEMENT
    decimals: int | None = None
    missing: str = "–"
    """Text of a cell without a value."""


def count(title: str, expr: Expr, steps: Steps = NO_JUDGEMENT) -> Column:
    """Column of whole numbers, rounded: `increase` extrapolates, and gives fractions even for counts."""
    return Column(title, expr, COUNT, steps, decimals=0)


def listing(
    title: str,
    description: str,
    *columns: Column,
    keys: Mapping[str, str],
    width: int = 12,
    widths: Mapping[str, int] | None = None,
    links: Mapping[str, Sequence[dashboard.DashboardLink]] | None = None,
) -> Panel:
    """Table over the time range, with one row for each value of the labels in `keys`, sorted by the first column.

    Args:
        columns: Number columns.
        keys: Titles of the key columns by label.
        width: Columns of the board, of 24.
        widths: Widths of key columns in pixels by label, for values that are long.
        links: Links of the key columns' cells by label.
    """
    letters = [chr(ord("A") + place) for place in range(len(columns))]
    # Grafana names the column of a single query `Value`, and those of several `Value #A`, `Value #B`, …
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
        .min_width(NUMBER_WIDTH)
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
        wide = model.DynamicConfigValue("custom.minWidth", KEY_WIDTH)
        panel.override_by_name(heading, [model.DynamicConfigValue("mappings", [blank]), wide])
    for label, pixels in (widths or {}).items():
        panel.override_by_name(keys[label], [model.DynamicConfigValue("custom.width", pixels)])
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
    if len(ignored) == 1:  # panels that ignore both are about sidecars, not agents
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
