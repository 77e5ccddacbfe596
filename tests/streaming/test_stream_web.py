"""Streams behind a real web server, as server-sent events."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sidestream import StreamEventType, run_stream
from tests.support.loopback import served, until
from tests.support.scripted_model import Call
from tests.support.talking_model import Log, agent_of, forever, of

httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
starlette = pytest.importorskip("starlette")


@contextmanager
def serving(agent: Any, log: Log) -> Iterator[str]:
    """Server that runs `agent` for each request; yields its address."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    async def chat(request: Request) -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            async for event in run_stream(agent, request.query_params["prompt"], sidecar=log.sidecar):
                if event.event_type == StreamEventType.LLM_CHUNK:
                    yield f"data: {json.dumps(event.data['text'])}\n\n"
                elif event.event_type == StreamEventType.AGENT_END:
                    yield f"event: done\ndata: {json.dumps({'success': event.data['success']})}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/chat", chat)])
    with served(app) as address:
        yield f"{address}/chat"


def data_of(lines: Iterator[str]) -> list[Any]:
    """Decoded data of server-sent events."""
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def client() -> Any:
    """HTTP client that ignores proxies of the environment."""
    return httpx.Client(trust_env=False, timeout=10)


def test_a_browser_gets_the_text_as_it_comes(log: Log) -> None:
    """Text deltas arrive one by one, followed by the end."""
    agent = agent_of(["It ", "works", "."])
    with serving(agent, log) as url, client() as http, http.stream("GET", url, params={"prompt": "?"}) as response:
        assert data_of(response.iter_lines()) == ["It ", "works", ".", {"success": True}]
    assert log.endings == ["completed"]


def test_several_browsers_at_once(log: Log) -> None:
    """Each request has a run of its own."""
    got: list[Any] = []

    def browse(url: str, number: int) -> None:
        with client() as http:
            got.append(data_of(iter(http.get(url, params={"prompt": str(number)}).text.splitlines())))

    with serving(agent_of(["a ", "b "] * 5), log) as url:
        threads = [threading.Thread(target=browse, args=(url, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert got == [["a ", "b "] * 5 + [{"success": True}]] * 8
    assert sorted(data.prompt for data in of(log.events, "agent_start")) == [str(number) for number in range(8)]


@pytest.mark.parametrize("stuck_in", ["the model", "a tool"])
def test_a_browser_that_goes_away_ends_the_run(stuck_in: str, log: Log) -> None:
    """The server cancels the run of a disconnected client, as the log shows."""
    agent = agent_of(["word ", forever] if stuck_in == "the model" else ["word ", Call("forever")], tools=[forever])
    with serving(agent, log) as url, client() as http:
        with http.stream("GET", url, params={"prompt": "?"}) as response:
            assert next(line for line in response.iter_lines() if line) == 'data: "word "'
        until(lambda: log.sidecar.stats().runs == 1 and log.sidecar.stats().runs_in_progress == 0)
    assert log.endings == ["cancelled"]
