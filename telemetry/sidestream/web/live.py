"""Server-sent events that notify open pages of changes in the log. A notified page fetches its own URL again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
from starlette.requests import Request
from starlette.responses import StreamingResponse

from sidestream.log import RunSummary

from .catalogue import Catalogue

CHECK_SECONDS = 0.5
"""Seconds between two checks of the log; at least twice the duration of the last check."""
KEEP_ALIVE_SECONDS = 15.0
"""Seconds without changes after which a comment line keeps the connection open."""


def live_runs(request: Request) -> StreamingResponse:
    """`/live`: an event whenever the log changes."""
    catalogue: Catalogue = request.app.state.catalogue
    return _events(lambda: (catalogue.signature(), False))


def live_run(request: Request) -> StreamingResponse:
    """`/live/RUN_ID`: an event whenever the run or a sub-agent of its tree changes; the stream ends with the run."""
    catalogue: Catalogue = request.app.state.catalogue
    run_id: str = request.path_params["run_id"]

    def look() -> tuple[object, bool]:
        run = catalogue.run(run_id)
        if run is None:
            return None, True
        return sorted(map(_state, catalogue.family(run.root_run_id))), run.outcome != "running"

    return _events(look)


def _state(run: RunSummary) -> tuple[str, int, str, list[int]]:
    return (run.run_id, run.events, run.outcome, [score.seq for score in run.scores])


def _events(look: Callable[[], tuple[object, bool]]) -> StreamingResponse:
    """Event stream: `change` whenever the state that `look` returns differs, `end` once its second value is True."""

    async def stream() -> AsyncIterator[str]:
        state, over = await anyio.to_thread.run_sync(look)
        # The page may have been rendered before the latest lines: it is notified once at the start.
        yield "retry: 2000\nevent: change\ndata:\n\n"
        quiet = took = 0.0
        while not over:
            pause = max(CHECK_SECONDS, 2 * took)
            await anyio.sleep(pause)
            began = anyio.current_time()
            now, over = await anyio.to_thread.run_sync(look)
            took = anyio.current_time() - began
            if now != state:
                state, quiet = now, 0.0
                yield "event: change\ndata:\n\n"
            elif (quiet := quiet + pause) >= KEEP_ALIVE_SECONDS:
                quiet = 0.0
                yield ":\n\n"
        yield "event: end\ndata:\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
