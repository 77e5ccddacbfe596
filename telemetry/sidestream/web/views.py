"""Views of the pages: read-only functions from a request to a response."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from sidestream.events.bounds import Figure
from sidestream.log import Filter, RunLog, RunSummary, diff, errors, load_run, previews
from sidestream.log.runs.filters import OUTCOMES

from .catalogue import Catalogue
from .charts import BINS, charts
from .filters import PRESETS, filter_or_problem, is_filtered, link, order_of, page_of, runs_with_score
from .run_page import FOLDED_TEXT, MAX_TEXT, all_events, as_json, as_line, run_page
from .scoring import Scoring
from .templating import asset, render
from .waterfall import MAX_ROWS, duration, waterfall

RUNS_A_PAGE = 100
EVENTS_A_PAGE = 200
ERRORS_SHOWN = 200

PREVIEW_SECONDS = 0.25
"""Longest time, in seconds, that a list spends on reading previews of prompts and answers."""

ASSETS = {
    "style.css": "text/css",
    "page.js": "text/javascript",
    "timeline.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def page(template: str, status: int = 200, **values: Any) -> Response:
    """HTML response of `template`. Lone surrogates, as in file names, are escaped."""
    html = render(template, standalone=False, **values)
    return Response(html.encode("utf-8", "backslashreplace"), status, media_type="text/html")


def static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS:
        return not_found(request, "There is no such file.")
    keep = "public, max-age=31536000, immutable" if request.query_params else "no-cache"
    return Response(asset(name), media_type=ASSETS[name], headers={"Cache-Control": keep})


def errors_view(request: Request) -> Response:
    """`/errors`: errors grouped by kind; the filters of the run list apply."""
    catalogue: Catalogue = request.app.state.catalogue
    where, problem = filter_or_problem(request)
    groups = errors(catalogue.paths, None if where == Filter() else where)
    return page(
        "errors.html", q="", groups=groups, shown=ERRORS_SHOWN, problem=problem, is_filtered=is_filtered(request)
    )


def not_found(request: Request, message: str = "There is no such page.") -> Response:
    return page("message.html", 404, title="Not found", message=message, q="")


# --- the list ------------------------------------------------------------------------------------------------------


def runs_page(request: Request) -> Response:
    """`/`: list of runs, filtered and sorted, by default newest first."""
    catalogue: Catalogue = request.app.state.catalogue
    query = request.query_params
    where, problem = filter_or_problem(request)
    with_sub_agents = query.get("runs") == "all"
    narrowed = where if with_sub_agents else replace(where, outermost=True)
    here = page_of(request, RUNS_A_PAGE)
    found = catalogue.page(narrowed, order_of(request), limit=here.size, offset=here.offset)
    names = catalogue.names()
    return page(
        "runs.html",
        q="",
        runs=found.runs,
        matching=found.total,
        sub_agents=0 if with_sub_agents else catalogue.count(where) - found.total,
        total=catalogue.count(Filter()),
        charts=charts(catalogue.over_time(narrowed, BINS)),
        problem=problem,
        query=query,
        is_filtered=is_filtered(request),
        previews=previews(
            catalogue.paths, [run.run_id for run in found.runs], deadline=time.monotonic() + PREVIEW_SECONDS
        ),
        presets=PRESETS,
        tools=names.tools,
        agents=names.agents,
        models=names.models,
        outcomes=OUTCOMES,
        number=here.number,
        pages=here.pages(found.total),
        paths=catalogue.paths,
        link=lambda **changes: link(request, **changes),
        score_link=lambda test: link(request, score=test, page=None),
    )


# --- one run -------------------------------------------------------------------------------------------------------


def run_view(request: Request) -> Response:
    """`/runs/RUN_ID`: page of a run."""
    summary = found(request)
    if not isinstance(summary, RunSummary):
        return summary
    rows = None if request.query_params.get("steps") == "all" else MAX_ROWS
    catalogue: Catalogue = request.app.state.catalogue
    scoring: Scoring | None = request.app.state.scoring
    return page(
        "run.html",
        q="",
        page=run_page(_load(request, summary), rows=rows),
        parent=catalogue.run(summary.parent_run_id) if summary.parent_run_id else None,
        neighbours=catalogue.neighbours(summary),
        score_link=runs_with_score,
        score_token=scoring.token(summary.run_id) if scoring is not None and scoring.is_possible(summary) else "",
        max_text=MAX_TEXT,
        folded_text=FOLDED_TEXT,
        events=None,
    )


def trace_view(request: Request) -> Response:
    """`/traces/TRACE_ID`: redirect to the root run of a trace, for links from other tools."""
    run = request.app.state.catalogue.run_of_trace(request.path_params["trace_id"])
    if run is None:
        return not_found(request, "No run in this log belongs to that trace.")
    return RedirectResponse(f"/runs/{quote(run.run_id, safe='')}", 302)


def events_view(request: Request) -> Response:
    """`/runs/RUN_ID/events`: events of a run as JSON."""
    summary = found(request, "/events")
    if not isinstance(summary, RunSummary):
        return summary
    log = _load(request, summary)
    events = all_events(log)
    types = sorted({str(located.event.event_type) for located in events})
    wanted = request.query_params.get("type")
    if wanted:
        events = [located for located in events if located.event.event_type == wanted]
    seq = request.query_params.get("seq")
    here = page_of(request, EVENTS_A_PAGE)
    if seq is not None:
        place = (at for at, each in enumerate(events) if str(each.event.seq) == seq and _is_own(each, summary))
        here = here._replace(number=next(place, 0) // here.size + 1)
    return page(
        "events.html",
        q="",
        log=log,
        events=[
            (each, as_json(each), str(each.event.seq) == seq and _is_own(each, summary)) for each in here.within(events)
        ],
        count=len(events),
        types=types,
        wanted=wanted,
        number=here.number,
        pages=here.pages(len(events)),
        link=lambda **changes: link(request, **{"seq": None, **changes}),
    )


def _is_own(located: Any, summary: RunSummary) -> bool:
    return bool(located.event.run_id == summary.run_id)


def lines_view(request: Request) -> Response:
    """`/runs/RUN_ID/events.jsonl`: events of a run as a JSONL download."""
    summary = found(request, "/events.jsonl")
    if not isinstance(summary, RunSummary):
        return summary
    lines = b"".join(map(as_line, all_events(_load(request, summary))))
    name = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in summary.run_id)
    disposition = f'attachment; filename="run-{name[:60]}.jsonl"'
    return Response(lines, media_type="application/x-ndjson", headers={"Content-Disposition": disposition})


def found(request: Request, suffix: str = "") -> RunSummary | Response:
    """Summary of the requested run; a redirect to the full id, or the error page, otherwise."""
    given = request.path_params["run_id"]
    run: RunSummary | None = request.app.state.catalogue.run(given)
    if run is None:
        return not_found(request, "There is no such run in this log. It may have been deleted, or the id is cut off.")
    if run.run_id != given:
        return RedirectResponse(f"/runs/{quote(run.run_id, safe='')}{suffix}", 302)
    return run


def _load(request: Request, summary: RunSummary) -> RunLog:
    return load_run(request.app.state.catalogue.paths, summary.run_id)


# --- two runs ------------------------------------------------------------------------------------------------------

FACTS: Sequence[tuple[str, str, str]] = (
    ("outcome", "Outcome", "words"),
    ("model", "Model", "text"),
    ("duration_seconds", "Duration", "seconds"),
    ("time_to_first_token_seconds", "First token", "seconds"),
    ("cost", "Cost", "money"),
    ("total_tokens", "Tokens", "count"),
    ("requests", "Requests", "count"),
    ("tool_calls", "Tool calls", "count"),
    ("retries", "Retries", "count"),
    ("errors", "Errors", "count"),
    ("sub_agents", "Sub-agents", "count"),
)
FIGURES: dict[str, Figure] = {"cost": "cost", "total_tokens": "usage"}
"""Facts that may be lower bounds, with the figure whose rule decides."""


def compare_view(request: Request) -> Response:
    """`/compare?run=A&run=B`: comparison of two runs."""
    given = request.query_params.getlist("run")
    if len(given) != 2:
        return page(
            "message.html", 400, title="Compare", message="Choose two runs in the list: check their boxes.", q=""
        )
    summaries = [request.app.state.catalogue.run(each) for each in given]
    if None in summaries:
        return not_found(request, "One of these runs is not in this log.")
    logs = [_load(request, summary) for summary in summaries]
    scale = max(map(duration, logs))
    facts = []
    for field, label, kind in FACTS:
        values = [log.summary.whole_cost_usd if field == "cost" else getattr(log.summary, field) for log in logs]
        figure = FIGURES.get(field)
        bounds = [figure is not None and log.summary.is_lower_bound(figure, with_children=True) for log in logs]
        facts.append((label, kind, *values, *bounds))
    return page(
        "compare.html",
        q="",
        logs=logs,
        falls=[waterfall(log, scale=scale) for log in logs],
        facts=facts,
        difference=diff(*logs),
        max_text=MAX_TEXT,
        folded_text=FOLDED_TEXT,
    )
