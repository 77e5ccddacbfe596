"""View that receives the score form of a run's page."""

from __future__ import annotations

from urllib.parse import parse_qs, quote

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from sidestream.errors import ConfigurationError, OutputError
from sidestream.events.scores import checked_score
from sidestream.log import RunSummary

from .scoring import Scoring
from .views import found, page

MAX_FORM = 64 * 1024
"""Largest form body in bytes."""
VALUES = {"up": True, "down": False}
"""Scores by the value of the pressed button."""


async def score_view(request: Request) -> Response:
    """`POST /runs/RUN_ID/scores`: writes the submitted score, and redirects to the page of the run."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM:
            return page("message.html", 413, title="Not written", message="That comment is too long.", q="")
    return await to_thread.run_sync(_scored, request, body)


def _scored(request: Request, body: bytes) -> Response:
    scoring: Scoring = request.app.state.scoring
    run = found(request)
    if not isinstance(run, RunSummary):
        return run

    def refused(status: int, message: str) -> Response:
        return page("message.html", status, title="Not written", message=message, q="")

    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10)
    except ValueError:
        return refused(400, "That is not the form of a run's page.")
    given = {name: values[-1].replace("\r\n", "\n").strip() for name, values in fields.items()}
    if not scoring.is_token(given.get("token", ""), run.run_id):
        return refused(403, "The page is older than this server. Open the run again, and score it then.")
    if given.get("value") not in VALUES:
        return refused(400, "Choose yes or no.")
    try:
        scoring.write(run, checked_score(given.get("name", ""), VALUES[given["value"]], comment=given.get("comment")))
    except ConfigurationError as error:
        return refused(400, str(error))
    except (OutputError, OSError) as error:
        return refused(500, str(error))
    return RedirectResponse(f"/runs/{quote(run.run_id, safe='')}#scores-title", 303)
