"""Cause of a run's end if the exception does not reveal it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_ai import Agent, ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sidestream import InMemoryExporter, Sidecar
from tests.support.scripted_model import Call, agent_of

pytestmark = pytest.mark.scenario_24


async def breaks(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    yield "half of an answer"
    raise ConnectionError("peer closed connection")


def test_a_failure_of_the_provider_that_the_program_catches_is_an_error() -> None:
    """Within `async with run_stream()`: the block is then left as by a caller that has finished."""
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(Agent(FunctionModel(stream_function=breaks)))

        async def main() -> None:
            async with agent.run_stream("hi") as result:
                with pytest.raises(ConnectionError):
                    async for _ in result.stream_text(delta=True, debounce_by=None):
                        pass

        asyncio.run(main())
    (request,), (run,) = memory.of("llm_end"), memory.of("agent_end")
    assert (request.data.outcome, request.data.exception_type) == ("error", "ConnectionError")
    assert (run.data.outcome, run.data.exception_type) == ("error", "ConnectionError")
    assert len(memory.of("error")) == 1


async def leaks() -> Any:
    """As the cancel scope of a client torn down below its caller does."""
    inner = asyncio.ensure_future(asyncio.sleep(10))
    asyncio.get_running_loop().call_soon(inner.cancel)
    await inner


def test_a_cancellation_that_a_tool_lets_out_though_nobody_cancelled_is_its_failure() -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(agent_of([Call("leaks")], ["done"], tools=[leaks]))

        async def main() -> None:
            with pytest.raises(asyncio.CancelledError):
                await agent.run("go")

        asyncio.run(main())
    (tool,), (run,) = memory.of("tool_end"), memory.of("agent_end")
    assert (tool.data.outcome, run.data.outcome) == ("failed", "error")
    assert run.data.exception_type == "asyncio.exceptions.CancelledError"
    assert memory.of("error")[0].data.where == "tool"


def test_a_tool_whose_run_is_cancelled_is_cancelled() -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        started = asyncio.Event()

        async def waits() -> None:
            started.set()
            await asyncio.sleep(3600)

        agent = sidecar.observe(agent_of([Call("waits")], ["done"], tools=[waits]))

        async def main() -> None:
            task = asyncio.create_task(agent.run("go"))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
    assert memory.of("tool_end")[0].data.outcome == memory.of("agent_end")[0].data.outcome == "cancelled"


async def says(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    yield "x"
    yield "y"


@pytest.mark.parametrize("turns", range(4, 40))
def test_a_consumer_that_is_cancelled_in_its_first_turns_is_cancelled(turns: int) -> None:
    """A consumer cancelled before pydantic-ai reports failures to hooks is recorded as cancelled, too."""
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(Agent(FunctionModel(stream_function=says)))

        async def consume() -> None:
            async with agent.run_stream_events("hi") as events:
                async for _ in events:
                    await asyncio.sleep(0)

        async def main() -> bool:
            task = asyncio.create_task(consume())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            return task.cancelled()

        cancelled = asyncio.run(main())
    if cancelled:  # otherwise the run had already ended
        assert [end.data.outcome for end in memory.of("agent_end")] == ["cancelled"]
