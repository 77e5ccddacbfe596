"""Web application over a log, for `sidestream serve` or for mounting in another application."""

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
    """Application that serves the pages over the log at `paths`.

    Args:
        paths: Folders, files or globs; nothing outside of them is shown.
        token: Token that a browser must present: `?token=` in the first URL, then a cookie. None requires no token.
        any_host: Whether any host name is accepted, rather than loopback names only. Requires a token.
        scores: Whether the page of a run has a form for scores, which are written to the log. For pages of a single
            user: not with `any_host`. `app.state.scoring.close()` releases the files.

    Raises:
        ConfigurationError: A path does not exist, or `any_host` is given without a token or with `scores`.
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
    """Page for a log or run that disappeared while the request was in progress."""
    return views.page("message.html", 404, title="Not found", message=str(error), q="")
