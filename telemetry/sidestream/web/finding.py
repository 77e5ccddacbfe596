"""Views for finding runs: full-text search, and conversations."""

from __future__ import annotations

import time
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response

from sidestream.log import Filter, Hit, previews, search
from sidestream.terminal.numbers import counted

from .catalogue import Catalogue
from .filters import FIELDS, filter_or_problem, is_filtered, link, page_of, runs_with_score
from .views import PREVIEW_SECONDS, not_found, page

MAX_HITS = 200
SEARCH_SECONDS = 15.0
CONVERSATIONS_A_PAGE = 100


def search_view(request: Request) -> Response:
    """`/search?q=TEXT`: matches in prompts, answers and tool names, newest runs first."""
    catalogue: Catalogue = request.app.state.catalogue
    q = request.query_params.get("q", "").strip()
    named = catalogue.named(q) if q else None
    hits: list[Hit] = []
    problem, note = "", "Give a text to look for, or the id of a run or trace."
    if q:
        where, problem = filter_or_problem(request)
        narrowed = None if where == Filter() else where
        deadline = time.monotonic() + SEARCH_SECONDS
        found = search(catalogue.paths, q, ignore_case=True, where=narrowed, newest_first=True, deadline=deadline)
        hits = list(islice(found, MAX_HITS + 1))
        in_time = time.monotonic() <= deadline
        note = "not found" if not hits else f"found in {counted(len({hit.run_id for hit in hits}), 'run')}"
        if len(hits) > MAX_HITS:
            hits, note = hits[:MAX_HITS], f"the newest {MAX_HITS} places"
        elif not in_time:
            looked = f"after {SEARCH_SECONDS:.0f} s; the log is longer: `sidestream search` has the time"
            note = f"{counted(len(hits), 'place')} found {looked}" if hits else f"not found {looked}"
    groups: dict[str, list[Hit]] = {}
    for hit in hits:
        groups.setdefault(hit.run_id, []).append(hit)
    runs = [(catalogue.run(run_id), each) for run_id, each in groups.items()]
    return page(
        "search.html",
        q=q,
        named=named,
        note=note,
        problem=problem,
        groups=[each for each in runs if each[0]],
        query=request.query_params,
        filters=[(name, value) for name in FIELDS for value in request.query_params.getlist(name) if value.strip()],
        link=lambda **changes: link(request, **changes),
    )


def conversations_view(request: Request) -> Response:
    """`/conversations`: list of conversations, the most recently active first."""
    catalogue: Catalogue = request.app.state.catalogue
    where, problem = filter_or_problem(request)
    here = page_of(request, CONVERSATIONS_A_PAGE)
    found = catalogue.conversations(where, limit=here.size, offset=here.offset)
    shown = found.conversations
    asked = previews(catalogue.paths, [each.turns[0] for each in shown], deadline=time.monotonic() + PREVIEW_SECONDS)
    return page(
        "conversations.html",
        q="",
        conversations=shown,
        previews=asked,
        total=found.total,
        problem=problem,
        is_filtered=is_filtered(request),
        number=here.number,
        pages=here.pages(found.total),
        link=lambda **changes: link(request, **changes),
    )


def conversation_view(request: Request) -> Response:
    """`/conversations/ID`: turns of one conversation, oldest first."""
    catalogue: Catalogue = request.app.state.catalogue
    conversation = catalogue.conversation(request.path_params["conversation_id"])
    if conversation is None:
        return not_found(request, "No run in this log belongs to that conversation.")
    asked = previews(catalogue.paths, conversation.turns, deadline=time.monotonic() + 4 * PREVIEW_SECONDS)
    turns = [run for run_id in conversation.turns if (run := catalogue.run(run_id)) is not None]
    return page("talk.html", q="", conversation=conversation, turns=turns, previews=asked, score_link=runs_with_score)
