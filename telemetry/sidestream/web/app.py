"""The web application over a log, for `sidestream serve` or to be mounted behind one's own server."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sidestream.errors import ConfigurationError

from . import finding, live, views
from .catalogue import Catalogue
from .score_form import score_view
from .scoring import Scoring
from .security import Guard


def make_app(
    paths: Sequence[str], *, token: str | None = None, any_host: bool = False, scores: bool = False
) -> Starlette:
    """The pages over the log at `paths` (folders, files or globs).

    Args:
        paths: nothing outside of them is shown.
        token: who opens the pages must know it: `?token=` in the first address, a cookie from then on.
        any_host: answer to any host name, and not to those of this machine alone. Needs a token.

        scores: let whoever opens the page of a run score it, which writes to the log. For pages that serve one person:
            not with `any_host`. `app.state.scoring.close()` releases the files.

    Raises `ConfigurationError` where a path leads nowhere, or `any_host` is given without a token or with `scores`.
    """
    if any_host and not token:
        raise ConfigurationError("pages that other machines can reach need a token")
    if any_host and scores:
        raise ConfigurationError("pages that other machines can reach do not write: scores=True is for loopback alone")
    catalogue = Catalogue(paths)
    catalogue.signature()
    app = Starlette(
        routes=[
            Route("/", views.runs_page),
            Route("/search", finding.search_view),
            Route("/conversations", finding.conversations_view),
            Route("/conversations/{conversation_id:path}", finding.conversation_view),
            Route("/compare", views.compare_view),
            Route("/errors", views.errors_view),
            Route("/runs/{run_id}", views.run_view),
            *([Route("/runs/{run_id}/scores", score_view, methods=["POST"])] if scores else []),
            Route("/runs/{run_id}/events", views.events_view),
            Route("/runs/{run_id}/events.jsonl", views.lines_view),
            Route("/traces/{trace_id}", views.trace_view),
            Route("/live", live.live_runs),
            Route("/live/{run_id}", live.live_run),
            Route("/static/{name}", views.static),
        ],
        middleware=[Middleware(Guard, token=token, any_host=any_host, takes_scores=scores)],
        exception_handlers={HTTPException: _http_error, ConfigurationError: _gone},
    )
    app.state.catalogue = catalogue
    app.state.scoring = Scoring(paths) if scores else None
    return app


def _http_error(request: Request, error: Exception) -> Response:
    return views.not_found(request)


def _gone(request: Request, error: Exception) -> Response:
    """The log, or the run, went away between two looks at it."""
    return views.page("message.html", 404, title="Not found", message=str(error), q="")
