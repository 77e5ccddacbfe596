"""Streams that end elsewhere than they started: closed in another task, pulled by several, served by a web server,"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, TypeAlias

import pydantic_ai._utils
import pytest
from pydantic_ai import Agent
from starlette.requests import Request
from starlette.responses import StreamingResponse

from sidestream import InMemoryExporter, Sidecar
from sidestream.events import StreamEvent
from tests.support.comparison import chain
from tests.support.consumption_modes import PROMPT, AnyAgent, Observe, Played, assert_settled, listening, loop_noise
from tests.support.run_outline import assert_whole, by_run, of, outline
from tests.support.scripted_model import Call, agent_of

pytestmark = pytest.mark.scenario_05

Stream: TypeAlias = AsyncGenerator[Any, None]


async def from_events(agent: AnyAgent) -> Stream:
    async with agent.run_stream_events(PROMPT) as events:
        async for event in events:
            yield event


async def from_text(agent: AnyAgent) -> Stream:
    async with agent.run_stream(PROMPT) as result:
        async for text in result.stream_text(delta=True, debounce_by=None):
            yield text


async def from_nodes(agent: AnyAgent) -> Stream:
    async with agent.iter(PROMPT) as agent_run:
        async for node in agent_run:
            yield node


async def from_node_events(agent: AnyAgent) -> Stream:
    async with agent.iter(PROMPT) as agent_run:
        async for node in agent_run:
            if Agent.is_model_request_node(node):
                async with node.stream(agent_run.ctx) as events:
                    async for event in events:
                        yield event


STREAMS = [from_events, from_text, from_node_events, from_nodes]

LEFT = {from_nodes: "abandoned"}
OURS = ("sidestream", "Observer", "observe_model_stream", "observe_tool_stream", "NotingSuspension", "wrap_")
INTERRUPTED = "llm:interrupted~ abandoned"


def consumed(
    stream: Callable[[AnyAgent], Stream],
    consume: Callable[[Callable[[], Stream]], Awaitable[None]],
    *,
    orderly: bool = True,
) -> list[StreamEvent]:
    """The log of a run whose stream is consumed by `consume`; the process sees the same without a sidecar.

    Where things end in no order of their own, so that no two runs complain alike, no complaint is about us.
    """

    def play(observe: Observe) -> Played:
        played = Played()
        agent = observe(agent_of(["a", "b", "c", "d"]))

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, told: played.noise.append(loop_noise(told)))
            await consume(lambda: stream(agent))
            for _ in range(20):
                await asyncio.sleep(0.001)

        with listening(played.noise):
            try:
                asyncio.run(main())
            except Exception as error:
                played.error = chain(error, {})
            gc.collect()
        played.noise.sort(key=repr)
        return played

    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        seen = play(sidecar.observe)
        assert_settled(sidecar)
    bare = play(lambda agent: agent)
    assert seen.error == bare.error
    if orderly:
        assert seen.noise == bare.noise
    else:
        assert [noise for noise in seen.noise if any(name in str(noise) for name in OURS)] == []
    assert_whole(memory.events)
    return memory.events


@pytest.mark.parametrize("stream", STREAMS)
def test_closed_in_another_task_is_abandoned(stream: Any) -> None:
    async def consume(make: Callable[[], Stream]) -> None:
        pieces = make()
        await anext(pieces)
        await anext(pieces)
        await asyncio.create_task(pieces.aclose())

    assert outline(consumed(stream, consume)) == LEFT.get(stream, INTERRUPTED)


@pytest.mark.parametrize("stream", STREAMS)
def test_each_piece_pulled_by_a_task_of_its_own_completes(stream: Any) -> None:
    async def consume(make: Callable[[], Stream]) -> None:
        pieces = make()
        done = object()

        async def one() -> Any:
            return await anext(pieces, done)

        while await asyncio.create_task(one()) is not done:
            pass

    assert outline(consumed(stream, consume)) == "llm:ok final completed"


@pytest.mark.scenario_03
@pytest.mark.skipif(
    "ScopedTask" in vars(pydantic_ai._utils) or sys.version_info >= (3, 13),
    reason="pydantic-ai then cancels the task in which a dropped stream is collected, with or without a sidecar",
)
@pytest.mark.parametrize("stream", STREAMS)
def test_dropped_and_collected_is_abandoned(stream: Any) -> None:
    async def consume(make: Callable[[], Stream]) -> None:
        pieces = make()
        await anext(pieces)
        await anext(pieces)
        del pieces
        gc.collect()

    assert outline(consumed(stream, consume)) == LEFT.get(stream, INTERRUPTED)


@pytest.mark.parametrize("stream", STREAMS)
def test_dropped_when_the_loop_ends_is_abandoned(stream: Any) -> None:
    kept: list[Stream] = []

    async def consume(make: Callable[[], Stream]) -> None:
        kept.append(make())
        await anext(kept[-1])
        await anext(kept[-1])

    log = outline(consumed(stream, consume, orderly=False))
    # The usage so far remains in a history that is never completed.
    assert log == LEFT.get(stream, "llm:interrupted abandoned")


def test_never_pulled_is_no_run() -> None:
    memory = InMemoryExporter()

    async def main(agent: AnyAgent) -> None:
        async with agent.run_stream_events(PROMPT):
            pass

    with Sidecar(memory) as sidecar:
        asyncio.run(main(sidecar.observe(agent_of(["a"]))))
        assert_settled(sidecar)
    assert memory.events == []


def test_a_thread_of_its_own_for_each_run() -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(agent_of(["a", "b"]))

        async def main() -> None:
            await asyncio.gather(*(asyncio.to_thread(agent.run_sync, str(number)) for number in range(10)))

        asyncio.run(main())
        assert_settled(sidecar)
    runs = by_run(memory.events)
    assert [outline(run) for run in runs] == ["llm:ok final completed"] * 10
    assert {run[0].data.prompt for run in runs} == {str(number) for number in range(10)}


# --- a web server ----------------------------------------------------------------------------------------------------


class _Server:
    """ASGI server for a single request: runs the application, and collects its messages."""

    def __init__(self, *, leave_after: int | None = None) -> None:
        self.body = b""
        self._left = asyncio.Event()
        self._leave_after = leave_after

    async def receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.body += message.get("body", b"")
        if self._leave_after is not None and len(self.body) >= self._leave_after:
            self._left.set()
            await asyncio.sleep(0.01)

    async def serve(self, app: Callable[..., Awaitable[None]]) -> None:
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
        scope["asgi"] = {"version": "3.0", "spec_version": "2.3"}
        # Like real servers, each request runs in a task and context of its own.
        await asyncio.create_task(app(scope, self.receive, self.send))  # type: ignore[arg-type]


def _app(agent: AnyAgent, stream: Callable[[AnyAgent], Stream]) -> Callable[..., Awaitable[None]]:
    async def handler(request: Request) -> StreamingResponse:
        async def body() -> AsyncGenerator[str, None]:
            async with aclosing(stream(agent)) as pieces:
                async for piece in pieces:
                    yield piece if isinstance(piece, str) else "."

        return StreamingResponse(body())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        response = await handler(Request(scope, receive))
        await response(scope, receive, send)

    return app


@pytest.mark.parametrize("stream", [from_events, from_text, from_node_events])
def test_a_response_streamed_after_its_handler_returned_is_one_run_in_one_trace(stream: Any) -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        child = sidecar.observe(agent_of(["c"], name="child"))

        async def delegate() -> str:
            return str((await child.run(PROMPT)).output)

        agent = sidecar.observe(agent_of([Call("delegate")], ["a", "b", "c"], tools=[delegate]))

        async def main() -> None:
            servers = [_Server(), _Server()]
            await asyncio.gather(*(server.serve(_app(agent, stream)) for server in servers))
            assert all(server.body for server in servers)

        asyncio.run(main())
        assert_settled(sidecar)
    runs = {run[0].run_id: run for run in by_run(memory.events)}
    parents = [run for run in runs.values() if run[0].agent_name == "clerk"]
    assert [outline(run) for run in parents] == ["llm:ok delegate:ok llm:ok final completed"] * 2
    for run in runs.values():
        assert_whole(run)
        start: Any = run[0].data
        if run[0].agent_name == "child":
            assert start.trace_id == runs[start.parent_run_id][0].data.trace_id
    assert len({run[0].data.trace_id for run in parents}) == 2


@pytest.mark.parametrize("stream", [from_events, from_text, from_node_events])
def test_a_client_that_disconnects_ends_the_run_without_blame(stream: Any) -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(agent_of([f"{i} " for i in range(200)]))

        async def main() -> None:
            with suppress(Exception):
                await _Server(leave_after=3).serve(_app(agent, stream))
            for _ in range(20):
                await asyncio.sleep(0.001)

        asyncio.run(main())
        assert_settled(sidecar)
    assert_whole(memory.events)
    (end,) = of(memory.events, "agent_end")
    assert end.outcome in ("cancelled", "abandoned")
    assert of(memory.events, "error") == []
    assert of(memory.events, "llm_end")[0].outcome in ("cancelled", "interrupted")
