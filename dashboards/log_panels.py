"""Panels of logs (Loki) and traces (Tempo): log lines, a trace, and tables of log lines or spans.

The queries use labels and metadata that `stack/logs.alloy` extracts from a JSONL line, fields of the line, and
attributes of the OTLP exporter's spans. A test checks each name against a real log and real spans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, logs, loki, table, tempo
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.tempo import SearchTableType

from dashboards.panels import NO_JUDGEMENT, OUTCOME_COLORS, Panel, thresholds
from sidestream.events.outcomes import OUTCOMES

LOGS = common_model.DataSourceRef(type_val="loki", uid="${logs}")
TRACES = common_model.DataSourceRef(type_val="tempo", uid="${traces}")

FAULTS = "|".join(name for name, outcome in OUTCOMES.items() if outcome.verdict == "fault")
"""Regular expression for the outcomes that are failures."""

RUNS = 'span.gen_ai.operation.name = "invoke_agent"'
"""TraceQL condition for spans of runs."""

MOST = 200
"""Most rows of a table."""

TIME = "time:MM-DD HH:mm:ss"

START = "Start time"
"""Heading of Tempo's column `time`. Grafana's transformation uses the name or the heading, depending on the version."""
UNUSED = ("traceService", "Trace Service", "traceName", "Trace Name", "spanID", "Span ID", "name", "Name")
"""Columns of Tempo's span table that are hidden, by name and by heading."""


@dataclass(frozen=True)
class Field:
    """Column of a table: a path within a log line, or an attribute of a span."""

    title: str
    path: str
    unit: str = "string"
    width: int | None = None
    links: Sequence[dashboard.DashboardLink] = ()
    outcome: bool = False
    """Whether the column holds outcomes, which are coloured."""


def of_log(matchers: str, *stages: str) -> str:
    """LogQL query for lines of the selected stream that match the label `matchers`, piped through `stages`."""
    selected = ", ".join(["${stream:raw}", matchers] if matchers else ["${stream:raw}"])
    return " | ".join([f"{{{selected}}}", *stages])


def log_lines(
    title: str, description: str, query: str, *, newest_first: bool = False, width: int = 24, height: int = 12
) -> Panel:
    """Panel of unchanged log lines, whose ids the data source's derived fields turn into links."""
    order = common_model.LogsSortOrder.DESCENDING if newest_first else common_model.LogsSortOrder.ASCENDING
    panel = (
        logs.Panel()
        .show_time(True)
        .show_labels(False)
        .show_common_labels(False)
        .wrap_log_message(True)
        .prettify_log_message(False)
        .enable_log_details(True)
        .sort_order(order)
        .dedup_strategy(common_model.LogsDedupStrategy.NONE)
        .with_target(_lines(query))
    )
    return _finished(panel, LOGS, title, description, width, height)


def one_trace(title: str, description: str, trace_id: str, *, width: int = 24, height: int = 14) -> Panel:
    """Panel with the spans of a trace as a waterfall."""
    panel = dashboard.Panel().type("traces")
    panel.with_target(tempo.Dataquery().query(trace_id).query_type("traceql").ref_id("A").datasource(TRACES))
    return _finished(panel, TRACES, title, description, width, height)


def log_table(title: str, description: str, query: str, *fields: Field, width: int = 24, height: int = 8) -> Panel:
    """Table with one row for each line that `query` finds: its time, and the `fields` of its JSON."""
    paths = [{"path": field.path, "alias": field.title} for field in fields]
    extract = {"source": "Line", "format": "json", "jsonPaths": paths, "replace": True, "keepTime": True}
    panel = table.Panel().with_target(_lines(query))
    panel.with_transformation(model.DataTransformerConfig(id_val="extractFields", options=extract))
    panel.sort_by([common.TableSortByFieldState().display_name("Time").desc(False)])
    return _finished(_columns(panel, [Field("Time", "", TIME, 130), *fields]), LOGS, title, description, width, height)


def span_table(title: str, description: str, condition: str, *fields: Field, width: int = 24, height: int = 8) -> Panel:
    """Table with one row for each span that matches the TraceQL `condition`: start, attributes `fields`, duration."""
    selected = ", ".join(f"span.{field.path}" for field in fields)
    query = (
        tempo.Dataquery()
        .query(f"{{ {condition} }} | select({selected})")
        .query_type("traceql")
        .table_type(SearchTableType.SPANS)
        .limit(MOST)
        .spss(MOST)
        .ref_id("A")
        .datasource(TRACES)
    )
    titles = {field.path: field.title for field in fields} | {"time": "Time", START: "Time", "duration": "Duration"}
    order = {
        "excludeByName": dict.fromkeys(UNUSED, True),
        "indexByName": {name: place for place, name in enumerate(titles)},
        "renameByName": titles,
    }
    panel = table.Panel().with_target(query)
    panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=order))
    panel.sort_by([common.TableSortByFieldState().display_name("Time").desc(True)])
    ends = (Field("Time", "", TIME, 130), Field("Duration", "", "ns", 90))
    return _finished(_columns(panel, [*fields, *ends]), TRACES, title, description, width, height)


def _lines(query: str) -> loki.Dataquery:
    return loki.Dataquery().expr(query).query_type("range").max_lines(MOST).ref_id("A").datasource(LOGS)


def _columns(panel: table.Panel, fields: Sequence[Field]) -> table.Panel:
    for field in fields:
        properties: Mapping[str, Any] = {
            "unit": field.unit,
            "custom.width": field.width,
            "links": [link.build() for link in field.links] or None,
            "mappings": [_colored_outcomes().to_json()] if field.outcome else None,
            "custom.cellOptions": {"type": "color-text"} if field.outcome else None,
        }
        panel.override_by_name(
            field.title,
            [model.DynamicConfigValue(name, value) for name, value in properties.items() if value is not None],
        )
    return panel


def _colored_outcomes() -> model.ValueMap:
    return model.ValueMap(
        {name: model.ValueMappingResult(text=name, color=color) for name, color in OUTCOME_COLORS.items()}
    )


def _finished(
    panel: Any, source: common_model.DataSourceRef, title: str, description: str, width: int, height: int
) -> Panel:
    finished: Panel = (
        panel.title(title)
        .description(description)
        .unit("string")
        .thresholds(thresholds(NO_JUDGEMENT))
        .no_value("–")
        .datasource(source)
        .span(width)
        .height(height)
    )
    return finished
