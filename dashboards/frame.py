"""Frame of every board around its panels: variables, links, annotations, rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from dashboards.panels import NEUTRAL, RED, SOURCE, TARGETS, Panel
from dashboards.queries import WATCHED, Expr, Scope

# --- links ---------------------------------------------------------------------------------------------------------

CARRIED = ("datasource", "job", "instance", "agent", "model", "review")
"""Variables of every board, which links to other boards pass on."""


def to_board(title: str, uid: str, carried: Sequence[str] = CARRIED, /, **chosen: str) -> dashboard.DashboardLink:
    """Link to another board with the time range and the `carried` variables; `chosen` variables get new values."""
    kept = [f"${{{name}:queryparam}}" for name in carried if name not in chosen]
    set_to = [f"var-{name}={value}" for name, value in chosen.items()]
    return dashboard.DashboardLink(title).url(f"/d/{uid}?{'&'.join(['${__url_time_range}', *kept, *set_to])}")


def to_review(title: str = "These runs in the log", **filters: str) -> dashboard.DashboardLink:
    """Link to the pages of `sidestream serve`: runs of the time range that match `filters`."""
    chosen = "".join(f"&{name}={value}" for name, value in filters.items())
    url = "${review}/?since=${__from:date:iso}&until=${__to:date:iso}" + chosen
    return dashboard.DashboardLink(title).url(url).target_blank(True)


# --- boards --------------------------------------------------------------------------------------------------------

TAG = "sidestream"
RUN_BOARD = "sidestream-run"

TITLES = {
    "sidestream-fleet": "Sidestream / Fleet overview",
    "sidestream-streaming": "Sidestream / Streaming latency",
    "sidestream-tools": "Sidestream / Tools and agents",
    "sidestream-cost": "Sidestream / Cost and tokens",
    "sidestream-health": "Sidestream / Sidecar health",
    RUN_BOARD: "Sidestream / One run and its conversation",
}
"""Titles of the boards by uid, which is also the file name."""

Rows: TypeAlias = Mapping[str, Sequence[Panel]]
Variable: TypeAlias = dashboard.TextBoxVariable | dashboard.DatasourceVariable


def make_board(uid: str, description: str, rows: Rows, variables: Sequence[Variable] = ()) -> dashboard.Dashboard:
    """Board with titled rows of panels, and with the variables, links and annotations shared by all boards."""
    board = (
        dashboard.Dashboard(TITLES[uid])
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .timezone("browser")
        .refresh("30s")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    job = Scope({"job": "=~$job"})
    for variable in (
        _choice("job", "Job", Scope()["sidestream_build_info"].select(), ".+"),
        _choice("instance", "Instance", job["sidestream_build_info"].select(), ".+"),
        # These labels may be empty (an unknown model): `.*` matches the empty value, `.+` would not.
        _choice("agent", "Agent", TARGETS["sidestream_runs_total"].select(), ".*"),
        _choice("model", "Model", TARGETS["sidestream_requests_total"].select(), ".*"),
        *variables,
    ):
        board.with_variable(variable)
    board.with_variable(
        dashboard.TextBoxVariable("review")
        .label("Log pages")
        .description("Where `sidestream serve` answers")
        .default_value("http://localhost:8765")
    )
    board.link(
        dashboard.DashboardLink("Sidestream")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .icon("external link")
        .include_vars(True)
        .keep_time(True)
    )
    board.link(
        dashboard.DashboardLink("Log")
        .type(model.DashboardLinkType.LINK)
        .url("${review}/")
        .icon("doc")
        .tooltip("The runs themselves: sidestream serve")
        .target_blank(True)
    )
    for annotation in _annotations(job):
        board.annotation(annotation)
    for title, panels in rows.items():
        board.with_row(dashboard.Row(title))
        for panel in panels:
            board.with_panel(panel)
    return board


def _annotations(job: Scope) -> list[dashboard.AnnotationQuery]:
    """Annotations on all charts: firing alerts, starts of programs, and new versions of Sidestream."""
    start = job["sidestream_start_time_seconds"].select(instance="=~$instance")
    build = job["sidestream_build_info"].select(instance="=~$instance")
    marks = {
        "Alerts": ('ALERTS{alertname=~"Sidestream.*",alertstate="firing"}', "{{alertname}}", RED),
        "Starts": (f"time() - {start} < 60", "{{instance}} of {{job}} started", NEUTRAL),
        "Versions": (new_version(build, start), "Sidestream {{version}} in {{job}}", NEUTRAL),
    }
    return [
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .expr(expr)
        .title_format(title)
        .icon_color(color)
        .step("60s")
        for name, (expr, title, color) in marks.items()
    ]


def new_version(build: Expr, start: Expr) -> Expr:
    """Versions of which a job has just started its first program, for two minutes.

    The first program is the only one that matters in a rollout to many hosts. A gap in the scrapes is no new version,
    because the programs of the job did not start after it; nor is the first version of a job.
    """
    started = f"{build} and on (job, instance) (time() - {start} < 120)"
    running = f"present_over_time({build}[10m] offset 2m)"
    known = f"present_over_time({build}[{WATCHED}] offset 2m)"
    return f"group by (job, version) ({started}) unless on (job, version) {running} and on (job) {known}"


def _choice(name: str, label: str, series: Expr, everything: str) -> dashboard.QueryVariable:
    query = f"label_values({series}, {name})"
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .definition(query)
        .multi(True)
        .include_all(True)
        .all_value(everything)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
