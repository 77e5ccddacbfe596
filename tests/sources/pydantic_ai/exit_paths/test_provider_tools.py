"""Actions of a provider: its own tools, hidden thinking, realtime sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    TextPart,
    ThinkingPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sidestream import InMemoryExporter, Sidecar
from tests.support.complete_run import run_to_its_end
from tests.support.provider_model import Says

PARTS: list[Any] = [
    NativeToolCallPart("web_search", {"query": "weather"}, tool_call_id="s1", provider_name="x"),
    NativeToolReturnPart("web_search", {"hits": 1}, tool_call_id="s1", provider_name="x"),
    NativeToolCallPart("file_search", None, tool_call_id="s2", provider_name="x"),
]


def _answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return ModelResponse(parts=[*PARTS, TextPart("sunny")])


async def _stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    for index, part in enumerate(PARTS):
        yield {index: part}
    yield "sunny"


def _played(*, streamed: bool, content: str = "full") -> InMemoryExporter:
    memory = InMemoryExporter(content=content)
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(Agent(FunctionModel(_answer, stream_function=_stream), name="a"))
        run_to_its_end(agent, streamed=streamed)
    return memory


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("content", ["full", "none"])
def test_server_side_tools_are_tool_calls_of_the_run(streamed: bool, content: str) -> None:
    """With and without arguments, with and without a return part."""
    memory = _played(streamed=streamed, content=content)
    starts = [(each.data.tool_name, each.data.tool_call_id, each.data.executed_by) for each in memory.of("tool_start")]
    assert starts == [("web_search", "s1", "provider"), ("file_search", "s2", "provider")]
    assert [(each.data.tool_name, each.data.outcome) for each in memory.of("tool_end")] == [
        ("web_search", "ok"),
        ("file_search", "ok"),
    ]
    assert memory.of("agent_end")[0].data.tool_calls == 2


@pytest.mark.parametrize("streamed", [False, True])
def test_what_they_were_asked_and_gave_is_content(streamed: bool) -> None:
    memory = _played(streamed=streamed)
    assert memory.of("tool_start")[0].data.args == {"query": "weather"}
    assert memory.of("tool_end")[0].data.result == {"hits": 1}


@pytest.mark.parametrize("streamed", [False, True])
def test_their_parts_have_a_line_with_name_and_call_id(streamed: bool) -> None:
    chunks = [each.data for each in _played(streamed=streamed).of("llm_chunk") if each.data.kind == "other"]
    assert {(each.tool_name, each.tool_call_id) for each in chunks} == {("web_search", "s1"), ("file_search", "s2")}


def test_hidden_thinking_has_a_line_and_a_time() -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(Agent(Says([[ThinkingPart(""), "yes"]]), name="a"))
        run_to_its_end(agent, streamed=True)
    [thought] = [each.data for each in memory.of("llm_chunk") if each.data.kind == "thinking"]
    assert (thought.text, thought.lengths) == ("", [0, 0])
    assert len(thought.offsets_us) == 2  # its start and its end
