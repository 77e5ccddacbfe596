"""Totals of a run over its requests and sub-agents, marked as lower bounds if incomplete."""

from __future__ import annotations

import asyncio

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sidestream import InMemoryExporter, Sidecar
from sidestream.events import AgentEnd, is_lower_bound


def ends(memory: InMemoryExporter) -> dict[str | None, AgentEnd]:
    return {event.agent_name: event.data for event in memory.of("agent_end")}


async def words(messages: list[ModelMessage], info: AgentInfo):  # type: ignore[no-untyped-def]
    for word in ("one ", "two ", "three "):
        yield word


def test_a_run_whose_stream_was_left_says_that_its_usage_is_a_lower_bound() -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(Agent(FunctionModel(stream_function=words), name="left"))

        async def leave() -> None:
            async with agent.run_stream_events("go") as events:
                async for event in events:
                    if type(event).__name__ == "PartDeltaEvent":
                        break

        asyncio.run(leave())
    end = ends(memory)["left"]
    assert (end.partial_requests or 0) + (end.unmeasured_requests or 0) == 1
    assert is_lower_bound(end, "usage")


def test_a_sub_agent_that_is_not_waited_for_is_still_a_sub_agent() -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        child = sidecar.observe(Agent(FunctionModel(stream_function=words), name="child"))
        parent = sidecar.observe(Agent("test", name="parent"))
        begun = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        async def run_child() -> None:
            async with child.run_stream_events("go") as events:
                async for _ in events:
                    begun.set()
                    await asyncio.sleep(0.02)

        @parent.tool_plain
        async def delegate() -> str:
            tasks.append(asyncio.create_task(run_child()))
            await begun.wait()
            return "it will see to it"

        async def main() -> None:
            await parent.run("go")
            await asyncio.gather(*tasks)

        asyncio.run(main())
    end = ends(memory)["parent"]
    assert (end.sub_agents, end.incomplete_sub_agents) == (1, 1)
    assert is_lower_bound(end, "cost", with_children=True)
