"""Outcome and parent of a tapped stream's run."""

from __future__ import annotations

import asyncio
import gc
import operator
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel

from sidestream import ConfigurationError, current_run
from tests.support.tapped_streams import Items, PlainItems, Watching, agen, gen


async def drain(stream: Any) -> list[Any]:
    return [item async for item in stream]


@pytest.mark.parametrize("make", [gen, PlainItems, list, iter])
def test_a_plain_stream_read_to_its_end_is_completed(watching: Watching, make: Any) -> None:
    assert list(watching.sidecar.tap(make(["a", "b"]))) == ["a", "b"]
    assert (watching.outcome(), watching.text()) == ("completed", "ab")


@pytest.mark.parametrize("make", [agen, Items])
def test_an_async_stream_read_to_its_end_is_completed(watching: Watching, make: Any) -> None:
    assert asyncio.run(drain(watching.sidecar.tap(make(["a", "b"])))) == ["a", "b"]
    assert (watching.outcome(), watching.text()) == ("completed", "ab")


@pytest.mark.parametrize("make", [agen, Items])
def test_a_stream_that_raises_is_an_error_told_once(watching: Watching, make: Any) -> None:
    with pytest.raises(ValueError, match="boom"):
        asyncio.run(drain(watching.sidecar.tap(make(["a", ValueError("boom")]))))
    assert watching.outcome() == "error"
    (error,) = watching.events("error")
    assert (error.data.exception_type, error.data.error, error.data.where) == ("ValueError", "boom", "model")
    (request,) = watching.events("llm_end")
    assert (request.data.outcome, request.data.exception_type) == ("error", "ValueError")


def test_breaking_out_is_abandoned(watching: Watching) -> None:
    for _ in watching.sidecar.tap(gen(["a", "b"])):
        break
    gc.collect()
    assert (watching.outcome(), watching.text()) == ("abandoned", "a")
    assert watching.events("llm_end")[0].data.outcome == "interrupted"


@pytest.mark.parametrize("make", [agen, Items])
def test_closing_is_abandoned(watching: Watching, make: Any) -> None:
    async def main() -> None:
        async with aclosing(watching.sidecar.tap(make(["a", "b"]))) as stream:
            await anext(stream)

    asyncio.run(main())
    assert watching.outcome() == "abandoned"


def test_a_consumer_that_raises_has_abandoned_the_stream(watching: Watching) -> None:
    """The consumer's exception is not an error of the stream."""

    def consume() -> None:
        for _ in watching.sidecar.tap(gen(["a", "b"])):
            raise KeyError("the consumer's")

    with pytest.raises(KeyError):
        consume()
    gc.collect()
    assert watching.outcome() == "abandoned"
    assert watching.events("error") == []


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt])
def test_a_program_that_is_interrupted_has_cancelled_the_stream(watching: Watching, leave: type[BaseException]) -> None:
    def consume() -> None:
        with watching.sidecar.tap(gen(["a", "b"])) as stream:
            next(stream)
            raise leave

    with pytest.raises(leave):
        consume()
    assert watching.outcome() == "cancelled"


def test_a_stream_that_nobody_reads_is_abandoned_when_it_is_let_go(watching: Watching) -> None:
    tapped = watching.sidecar.tap(gen([]))
    assert watching.ends() == []
    del tapped
    gc.collect()
    assert watching.outcome() == "abandoned"


@pytest.mark.parametrize("generator", [True, False])
def test_a_cancelled_task_is_a_cancelled_run(watching: Watching, generator: bool) -> None:
    async def hanging() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(60)

    class Hanging(Items):
        async def __anext__(self) -> Any:
            return await super().__anext__() if operator.length_hint(self._items) else await asyncio.sleep(60)

    async def main() -> None:
        stream = hanging() if generator else Hanging(["a"])
        task = asyncio.create_task(drain(watching.sidecar.tap(stream)))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gc.collect()
    assert watching.outcome() == "cancelled"
    assert watching.events("llm_end")[0].data.outcome == "cancelled"


def test_a_pull_that_times_out_does_not_end_a_stream_that_goes_on(watching: Watching) -> None:
    """As in a server that sends heartbeats while a queue is empty."""
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    class Queued(AsyncIterator[str]):
        async def __anext__(self) -> str:
            item = await queue.get()
            if item is None:
                raise StopAsyncIteration
            return item

    async def main() -> None:
        stream = watching.sidecar.tap(Queued())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.01)
        for item in ("a", "b", None):
            queue.put_nowait(item)
        assert await drain(stream) == ["a", "b"]

    asyncio.run(main())
    assert (watching.outcome(), watching.text()) == ("completed", "ab")


def test_a_generator_asked_by_two_at_once_goes_on_for_the_first(watching: Watching) -> None:
    async def slow() -> AsyncIterator[str]:
        await asyncio.sleep(0.02)
        yield "a"

    async def main() -> None:
        stream = watching.sidecar.tap(slow())
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already running"):
            await anext(stream)
        assert await first == "a"
        assert await drain(stream) == []

    asyncio.run(main())
    assert watching.outcome() == "completed"


def test_an_interrupt_is_cancelled(watching: Watching) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(watching.sidecar.tap(gen(["a", KeyboardInterrupt()])))
    assert watching.outcome() == "cancelled"


def test_many_streams_at_once_are_runs_apart(watching: Watching) -> None:
    async def slow(name: str) -> AsyncIterator[str]:
        for piece in (name, " goes on"):
            await asyncio.sleep(0)
            yield piece

    async def main() -> None:
        await asyncio.gather(*(drain(watching.sidecar.tap(slow(str(i)), agent_name=str(i))) for i in range(100)))

    asyncio.run(main())
    assert [end.outcome for end in watching.ends()] == ["completed"] * 100
    assert {chunk.data.text for chunk in watching.events("llm_chunk")} == {f"{i} goes on" for i in range(100)}
    assert all(start.data.parent_run_id is None for start in watching.events("agent_start"))


# --- parents -------------------------------------------------------------------------------------------------------


def test_a_stream_tapped_in_an_agents_tool_is_that_runs_child(watching: Watching) -> None:
    agent = watching.sidecar.observe(Agent(TestModel(), name="outer"))

    @agent.tool_plain
    async def write() -> str:
        return "".join(await drain(watching.sidecar.tap(agen(["a", "b"]), agent_name="inner")))

    agent.run_sync("go")
    outer, inner = watching.events("agent_start")
    assert (inner.data.parent_run_id, inner.data.parent_link) == (outer.run_id, "tool")
    assert inner.data.root_run_id == outer.run_id
    assert inner.data.trace_id == outer.data.trace_id
    assert [(e.agent_name, e.data.sub_agents) for e in watching.events("agent_end")] == [("inner", None), ("outer", 1)]


def test_an_agent_run_by_a_tapped_generator_is_the_taps_child(watching: Watching) -> None:
    agent = watching.sidecar.observe(Agent(TestModel(custom_output_text="hi"), name="inner"))

    async def workflow() -> AsyncIterator[str]:
        assert current_run() is not None
        yield (await agent.run("go")).output
        yield "over"

    async def main() -> None:
        async for _ in watching.sidecar.tap(workflow(), agent_name="outer"):
            assert current_run() is None  # the consumer is outside of the run

    asyncio.run(main())
    outer, inner = watching.events("agent_start")
    assert (outer.agent_name, inner.agent_name) == ("outer", "inner")
    assert inner.data.parent_run_id == outer.run_id


def test_a_stream_begun_by_a_handler_and_read_after_it_returned_keeps_its_parent(watching: Watching) -> None:
    """As a web server handles a streaming response: in another task, after the handler."""

    async def main() -> None:
        async def handler() -> Any:
            with watching.sidecar.tags(tenant="acme"):
                return watching.sidecar.tap(agen(["a"]))

        stream = await asyncio.create_task(handler())
        await asyncio.create_task(drain(stream))

    asyncio.run(main())
    assert watching.outcome() == "completed"
    assert watching.events("agent_start")[0].data.tags == {"tenant": "acme"}


def test_pydantic_ais_own_text_stream_can_be_tapped(watching: Watching) -> None:
    async def stream(_messages: Any, _info: Any) -> AsyncIterator[str]:
        yield "a "
        yield "b"

    async def main() -> list[str]:
        async with Agent(FunctionModel(stream_function=stream)).run_stream("go") as result:
            return await drain(watching.sidecar.tap(result.stream_text(delta=True, debounce_by=None)))

    assert "".join(asyncio.run(main())) == "a b"
    assert (watching.outcome(), watching.text()) == ("completed", "a b")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_goes_on_reading_but_tells_nothing_of_the_parents_run(watching: Watching) -> None:
    tapped = watching.sidecar.tap(gen(["a", "b"]))
    assert next(tapped) == "a"
    child = os.fork()
    if child == 0:
        try:
            fine = list(tapped) == ["b"] and watching.sidecar.stats().exporters["memory"].seen == 0
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(tapped) == ["b"]
    assert (watching.outcome(), watching.text()) == ("completed", "ab")


# --- times ---------------------------------------------------------------------------------------------------------


def test_waiting_for_the_stream_and_being_held_by_the_consumer_are_told_apart(watching: Watching) -> None:
    async def slow() -> AsyncIterator[str]:
        for piece in ("a", "b"):
            await asyncio.sleep(0.03)
            yield piece

    async def main() -> None:
        async for _ in watching.sidecar.tap(slow()):
            await asyncio.sleep(0.1)

    asyncio.run(main())
    end = watching.events("llm_end")[0].data
    assert end.provider_wait_seconds >= 0.06
    assert end.consumer_hold_seconds >= 0.2
    assert end.time_to_first_token_seconds["text"] >= 0.03
    assert end.time_to_first_token_seconds["text"] <= end.provider_wait_seconds - 0.03
    assert end.provider_wait_seconds + end.consumer_hold_seconds <= end.duration_seconds + 1e-5


def test_a_piece_is_in_the_log_while_the_stream_stands_still(watching: Watching) -> None:
    tapped = watching.sidecar.tap(gen(["a", "b"]))
    next(tapped)
    deadline = time.monotonic() + 10
    while not watching.memory.of("llm_chunk") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [event.data.text for event in watching.memory.of("llm_chunk")] == ["a"]


# --- web servers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaves", [False, True])
def test_a_streaming_response_is_a_run_that_ends_with_the_connection(watching: Watching, leaves: bool) -> None:
    starlette_responses = pytest.importorskip("starlette.responses")
    uvicorn = pytest.importorskip("uvicorn")
    httpx = pytest.importorskip("httpx")

    async def pieces() -> AsyncIterator[str]:
        for i in range(100_000 if leaves else 3):
            yield f"{i} "
            await asyncio.sleep(0.001)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        stream = watching.sidecar.tap(pieces(), agent_name="web")
        await starlette_responses.StreamingResponse(stream)(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        with httpx.Client(trust_env=False) as client, client.stream("GET", url) as response:
            received = [next(response.iter_text())] if leaves else list(response.iter_text())
    finally:
        server.should_exit = True
        thread.join()
    gc.collect()
    assert watching.outcome() == ("cancelled" if leaves else "completed")
    assert watching.text().startswith("".join(received))


# --- mistakes ------------------------------------------------------------------------------------------------------


def test_what_is_no_stream_is_said_clearly(watching: Watching) -> None:
    for wrong, advice in (
        ("a text", r"give \[text\]"),
        (b"bytes", r"give \[text\]"),
        (5, "give an iterator"),
        (list, "give an"),
    ):
        with pytest.raises(ConfigurationError, match=advice):
            watching.sidecar.tap(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="unknown name; there are agent_name"):
        watching.sidecar.tap([], name="x")  # type: ignore[call-overload]
    assert watching.sidecar.stats().runs == 0


def test_a_stream_that_cannot_even_be_begun_is_no_run(watching: Watching) -> None:
    class Broken:
        def __iter__(self) -> Any:
            raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        watching.sidecar.tap(Broken())
    assert watching.sidecar.stats().runs == 0


def test_tapping_needs_no_pydantic_ai() -> None:
    import subprocess

    code = (
        "import sys; from sidestream import Sidecar, InMemoryExporter; s = Sidecar(InMemoryExporter());"
        "print(list(s.tap(['a', 'b'])), [m for m in ('pydantic_ai', 'genai_prices', 'openai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['a', 'b'] []\n"
