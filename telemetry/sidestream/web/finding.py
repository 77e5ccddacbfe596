"""Views that find runs: by a text, and by the conversation that they belong to."""

from __future__ import annotations

import time
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response

from sidestream.errors import ConfigurationError
from sidestream.log import Filter, Hit, previews, search
from sidestream.log.runs.conversations import conversations_of
from sidestream.terminal.numbers import counted

from .catalogue import Catalogue
from .filters import FIELDS, filter_of, is_filtered, link
from .views import PREVIEW_SECONDS, not_found, number_of, page

MAX_HITS = 200
SEARCH_SECONDS = 15.0
CONVERSATIONS_A_PAGE = 100


def search_view(request: Request) -> Response:
    """`/search?q=TEXT`: where people and models wrote it, and the tools that are called so; the newest runs first."""
    catalogue: Catalogue = request.app.state.catalogue
    q = request.query_params.get("q", "").strip()
    named = (catalogue.run(q) or catalogue.run_of_trace(q)) if q else None
    hits: list[Hit] = []
    problem, note = "", "Give a text to look for, or the id of a run or trace."
    if q:
        try:
            where = filter_of(request) if is_filtered(request) else None
        except ConfigurationError as error:
            problem, where = str(error), None
        deadline = time.monotonic() + SEARCH_SECONDS
        found = search(catalogue.paths, q, ignore_case=True, where=where, newest_first=True, deadline=deadline)
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
    """`/conversations`: the conversations, the one with the latest turn first."""
    catalogue: Catalogue = request.app.state.catalogue
    problem = ""
    try:
        where = filter_of(request)
    except ConfigurationError as error:
        problem, where = str(error), Filter()
    every = list(reversed(conversations_of(catalogue.runs(), where)))
    number = number_of(request.query_params.get("page"), 1)
    shown = every[(number - 1) * CONVERSATIONS_A_PAGE : number * CONVERSATIONS_A_PAGE]
    asked = previews(catalogue.paths, [each.turns[0] for each in shown], deadline=time.monotonic() + PREVIEW_SECONDS)
    return page(
        "conversations.html",
        q="",
        conversations=shown,
        previews=asked,
        total=len(every),
        problem=problem,
        is_filtered=is_filtered(request),
        number=number,
        pages=max(1, -(-len(every) // CONVERSATIONS_A_PAGE)),
        link=lambda **changes: link(request, **changes),
    )


def conversation_view(request: Request) -> Response:
    """`/conversations/ID`: the turns of one conversation, the first turn first."""
    catalogue: Catalogue = request.app.state.catalogue
    wanted = request.path_params["conversation_id"]
    its = conversations_of(catalogue.runs())
    conversation = next((each for each in its if each.conversation_id == wanted), None)
    if conversation is None:
        return not_found(request, "No run in this log belongs to that conversation.")
    asked = previews(catalogue.paths, conversation.turns, deadline=time.monotonic() + 4 * PREVIEW_SECONDS)
    turns = [run for run_id in conversation.turns if (run := catalogue.run(run_id)) is not None]
    return page("talk.html", q="", conversation=conversation, turns=turns, previews=asked)
