"""The kinds of panels on the boards, and what all panels have in common.

Everything a reader of a panel needs comes with it: a description, a unit, what is too much, and words for emptiness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

from dashboards.queries import Expr, Scope

Panel: TypeAlias = Builder[model.Panel]
Steps: TypeAlias = Sequence[tuple[float | None, str]]
"""Colours, each from a value on; the first from None, the lowest."""

GREEN, YELLOW, RED, NEUTRAL = "green", "#EAB839", "red", "#5794F2"

OUTCOME_COLORS = {
    "completed": GREEN,
    "ok": GREEN,
    "error": RED,
    "failed": RED,
    "timed_out": "dark-red",
    "invalid": "orange",
    "unknown": "dark-orange",
    "retry": YELLOW,
    "cancelled": "blue",
    "abandoned": "purple",
    "denied": "light-purple",
}
"""Red is a fault, blue and purple a caller's choice."""

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


# --- kinds of panels -----------------------------------------------------------------------------------------------


def lines(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    steps: Steps = NO_JUDGEMENT,
    empty: str = "Nothing in this time range",
    width: int = 8,
    stacked: bool = False,
    colors: Mapping[str, str] | None = None,
    links: Sequence[dashboard.DashboardLink] = (),
) -> Panel:
    """Values over time. `colors` are those of series that mean something, by legend."""
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
        .line_width(1)
        .fill_opacity(25 if stacked else 8)
        .show_points(common_model.VisibilityMode.AUTO)
        .data_links(list(links))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))
    for legend, color in (colors or {}).items():
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
    links: Sequence[dashboard.DashboardLink] = (),
) -> Panel:
    """One value, or a few, as of the end of the time range."""
    panel = (
        stat.Panel()
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


def count(title: str, expr: Expr, steps: Steps = NO_JUDGEMENT) -> Column:
    """A column of whole numbers. (`increase` estimates, and has fractions even of what has none.)"""
    return Column(title, expr, "short", steps, decimals=0)


def listing(
    title: str,
    description: str,
    *columns: Column,
    keys: Mapping[str, str],
    empty: str = "Nothing in this time range",
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
            "thresholds": _thresholds(column.steps).build(),
            "custom.cellOptions": {"type": style},
        }
        panel.override_by_name(
            column.title,
            [model.DynamicConfigValue(name, value) for name, value in properties.items() if value is not None],
        )
    for label, targets in (links or {}).items():
        cell_links = model.DynamicConfigValue("links", [link.build() for link in targets])
        panel.override_by_name(keys[label], [cell_links])
    queries = [prometheus.Dataquery().expr(column.expr).format(PromQueryFormat.TABLE).instant() for column in columns]
    return _finished(panel, title, description, columns[0].unit, columns[0].steps, empty, width, 8, queries)


def _over_time(query: Query) -> prometheus.Dataquery:
    built = prometheus.Dataquery().expr(query.expr).legend_format(query.legend or "__auto").range()
    return built.exemplar(True) if query.exemplars else built


def _at_the_end(query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend or "__auto").instant()


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
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
        .thresholds(_thresholds(steps))
        .no_value(empty)
        .datasource(SOURCE)
        .span(width)
        .height(height)
    )
    return finished
