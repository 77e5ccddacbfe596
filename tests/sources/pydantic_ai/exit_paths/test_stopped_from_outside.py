"""Outcomes of runs stopped from outside: by a cancellation, a time limit, a signal, or a hidden failure."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sidestream import InMemoryExporter, Sidecar
from sidestream.events import AgentEnd, LLMEnd
from sidestream.log import runs

Use = Callable[[Agent[None, str]], Awaitable[None]]


async def _words(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    for _ in range(200):
        await asyncio.sleep(0.01)
        yield "word "


async def _breaks(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    yield "half of "
    await asyncio.sleep(0)
    yield "an answer "
    raise ConnectionError("peer closed connection")


async def _run(agent: Agent[None, str]) -> None:
    await agent.run("go")


async def _stream(agent: Agent[None, str]) -> None:
    async with agent.run_stream("go") as result:
        async for _ in result.stream_text(delta=True, debounce_by=None):
            pass


async def _events(agent: Agent[None, str]) -> None:
    async with agent.run_stream_events("go") as events:
        async for _ in events:
            await asyncio.sleep(0)


async def _slow_answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    await asyncio.sleep(2)
    return ModelResponse(parts=[TextPart("late")])


def _observed(sidecar: Sidecar, words: Any = _words) -> Agent[None, str]:
    return sidecar.observe(Agent(FunctionModel(_slow_answer, stream_function=words), name="a"))


def _end(memory: InMemoryExporter) -> AgentEnd:
    [event] = memory.of("agent_end")
    data: AgentEnd = event.data
    return data


@pytest.mark.parametrize("use", [_run, _stream, _events])
def test_a_limit_of_time_around_a_run_is_a_time_out(use: Use) -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = _observed(sidecar)

        async def main() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await use(agent)

        asyncio.run(main())
    assert _end(memory).outcome == "timed_out"


@pytest.mark.parametrize("use", [_run, _stream, _events])
def test_a_limit_of_time_that_has_not_passed_is_no_time_out(use: Use) -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = _observed(sidecar)

        async def limited() -> None:
            async with asyncio.timeout(60):
                await use(agent)

        async def main() -> None:
            task = asyncio.create_task(limited())
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
    assert _end(memory).outcome == "cancelled"


@pytest.mark.scenario_24
@pytest.mark.parametrize("turns", range(40))
@pytest.mark.parametrize("use", [_stream, _events])
def test_a_run_that_is_cancelled_in_its_first_turns_is_cancelled(use: Use, turns: int) -> None:
    """Whether pydantic-ai reports the end, or leaves its task to the garbage collector, as it does unobserved."""
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = _observed(sidecar)

        async def main() -> None:
            task: asyncio.Task[Any] = asyncio.create_task(use(agent))  # type: ignore[arg-type]
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
    assert [event.data.outcome for event in memory.of("agent_end")] == ["cancelled"] * len(memory.of("agent_start"))


def test_a_provider_s_failure_that_the_program_catches_inside_the_stream_is_an_error() -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = _observed(sidecar, _breaks)

        async def main() -> None:
            async with agent.run_stream("go") as result:
                with pytest.raises(ConnectionError):
                    async for _ in result.stream_text(delta=True, debounce_by=None):
                        pass

        asyncio.run(main())
    end = _end(memory)
    assert (end.outcome, end.exception_type) == ("error", "ConnectionError")
    request: LLMEnd = memory.of("llm_end")[0].data
    assert (request.outcome, request.exception_type) == ("error", "ConnectionError")


def test_a_cancellation_that_a_tool_lets_out_is_the_tool_s_failure() -> None:
    """Cancel scopes of an MCP client do this, although the task was not cancelled."""

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[ToolCallPart("leaky", {}) if len(messages) == 1 else TextPart("done")])

    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(Agent(FunctionModel(model), name="a"))

        @agent.tool_plain
        async def leaky() -> str:
            inner: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(inner.cancel)
            return await inner

        async def main() -> None:
            with pytest.raises(asyncio.CancelledError):
                await agent.run("go")

        asyncio.run(main())
    end = _end(memory)
    assert (end.outcome, end.exception_type) == ("error", "asyncio.exceptions.CancelledError")
    assert [event.data.outcome for event in memory.of("tool_end")] == ["failed"]
    assert [event.data.where for event in memory.of("error")] == ["tool"]


_PROGRAM = """
import asyncio, signal, sys
from pydantic_ai import Agent
from pydantic_ai.models.function import FunctionModel
from sidestream import Sidecar

async def words(messages, info):
    for _ in range(600):
        await asyncio.sleep(0.02)
        yield "word "

agent = Sidecar(f"jsonl:{sys.argv[1]}/").observe(Agent(FunctionModel(stream_function=words), name="a"))
mode, moment = sys.argv[2:]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))

async def stop():
    if moment == "consumer":
        signal.raise_signal(signal.SIGTERM)
    asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
    await asyncio.sleep(1)

async def main():
    if mode == "events":
        async with agent.run_stream_events("x") as events:
            async for _ in events:
                await stop()
    else:
        async with agent.run_stream("x") as result:
            async for _ in result.stream_text(debounce_by=None):
                await stop()

asyncio.run(main())
"""


@pytest.mark.scenario_23
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to handle")
@pytest.mark.parametrize("moment", ["consumer", "event loop"])
@pytest.mark.parametrize("mode", ["events", "stream"])
def test_a_program_whose_signal_handler_exits_has_cancelled_its_runs(mode: str, moment: str, tmp_path: Path) -> None:
    """The signal comes at a moment of the program's own. Inside `async with` of pydantic-ai's lock around the
    provider's stream, the exit leaves that lock held, and the program then fails or hangs, observed or not.
    """
    done = subprocess.run([sys.executable, "-c", _PROGRAM, tmp_path, mode, moment], capture_output=True, timeout=60)
    assert done.returncode == 3, done.stderr.decode()
    assert [run.outcome for run in runs(tmp_path)] == ["cancelled"]


def test_a_fallback_is_called_by_the_model_that_was_asked_and_tells_who_failed() -> None:
    from pydantic_ai.exceptions import ModelHTTPError
    from pydantic_ai.models.fallback import FallbackModel

    def down(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise ModelHTTPError(503, "first")

    def up(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("done")])

    first, second = FunctionModel(down, model_name="first"), FunctionModel(up, model_name="second")
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(Agent(FallbackModel(first, second), name="a"))
        asyncio.run(agent.run("go"))
    request: LLMEnd = memory.of("llm_end")[0].data
    assert (memory.of("agent_start")[0].data.model, request.model, request.response_model) == (
        "first",
        "first",
        "second",
    )
