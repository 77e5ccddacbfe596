"""Tool names invented by a model are words of the model, and therefore content."""

from __future__ import annotations

import asyncio

import pytest
from pydantic_ai import Agent
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import ToolCallPart

from sidestream import InMemoryExporter, Sidecar, encode_line
from tests.support.complete_run import run_to_its_end
from tests.support.provider_model import Says, call

SECRET = "send_4711_to_mallory"


def _played(content: str, *, streamed: bool) -> InMemoryExporter:
    memory = InMemoryExporter(content=content)
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(Agent(Says([[ToolCallPart(SECRET, {}, tool_call_id="c1")]]), name="a", retries=1))

        @agent.tool_plain
        def look() -> str:
            return "seen"

        with pytest.raises(UnexpectedModelBehavior):
            run_to_its_end(agent, streamed=streamed)
    return memory


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("content", ["none", "metadata"])
def test_they_leave_where_content_may_not(content: str, streamed: bool) -> None:
    memory = _played(content, streamed=streamed)
    lines = b"".join(map(encode_line, memory.events))
    assert SECRET.encode() not in lines
    assert {event.data.tool_name for event in memory.of("tool_start", "tool_end")} == {"unknown_tool"}


@pytest.mark.parametrize("streamed", [False, True])
def test_they_are_there_in_full(streamed: bool) -> None:
    memory = _played("full", streamed=streamed)
    assert {event.data.tool_name for event in memory.of("tool_start")} == {SECRET}
    assert all(event.data.invented for event in memory.of("tool_start", "tool_end"))


def test_names_of_tools_that_there_are_stay() -> None:
    memory = InMemoryExporter(content="none")
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(Agent(Says([[call("look")], ["done"]]), name="a"))

        @agent.tool_plain
        def look() -> str:
            return "seen"

        asyncio.run(agent.run("hi"))
    assert [event.data.tool_name for event in memory.of("tool_start")] == ["look"]
    assert all(event.data.invented is None for event in memory.of("tool_start", "tool_end"))
