"""Server-sent events that notify open pages of new lines in the log. A page then fetches itself like any other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
from starlette.requests import Request
from starlette.responses import StreamingResponse

from sidestream.log import RunSummary

from .catalogue import Catalogue

LOOK_SECONDS = 0.5
"""Seconds between two looks at the log; a log that takes long to look at gets twice that time."""
KEEP_ALIVE_SECONDS = 15.0


def live_runs(request: Request) -> StreamingResponse:
    """`/live`: an event whenever anything is written."""
    catalogue: Catalogue = request.app.state.catalogue
    return _events(lambda: (catalogue.signature(), False))


def live_run(request: Request) -> StreamingResponse:
    """`/live/RUN_ID`: an event whenever something of that run or its sub-agents is; the stream ends with the run."""
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
    """Event stream: `change` when `look` returns another state than before, `end` when it returns True as well."""

    async def stream() -> AsyncIterator[str]:
        state, over = await anyio.to_thread.run_sync(look)
        # A page that was made just before may lack what was written since: it is notified once.
        yield "retry: 2000\nevent: change\ndata:\n\n"
        quiet = took = 0.0
        while not over:
            pause = max(LOOK_SECONDS, 2 * took)
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
