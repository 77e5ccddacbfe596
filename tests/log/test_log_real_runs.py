"""Runs of real agents, streamed through a sidecar into a log, are read back unchanged."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from pydantic_ai.models.test import TestModel

from sidestream import InMemoryExporter, Sidecar, log
from sidestream_exporters import JSONLExporter
from tests.support.log_builder import keys


async def _converse(sidecar: Sidecar) -> list[str]:
    """Run an agent with a sub-agent, streamed; returns the pieces of the answer that the caller received."""
    helper = sidecar.observe(Agent(TestModel(custom_output_text="the helper says so"), name="helper"))
    agent = sidecar.observe(Agent(TestModel(custom_output_text="one two three four"), name="support"))

    @agent.tool_plain
    async def ask_helper(question: str) -> str:
        return (await helper.run(question)).output

    pieces: list[str] = []
    async with agent.run_stream_events("what is it?") as events:
        async for event in events:
            match event:
                case PartStartEvent(part=TextPart(content=text)) if text:
                    pieces.append(text)
                case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                    pieces.append(text)
                case _:
                    pass
    return pieces


@pytest.mark.parametrize("chunks", ["merged", "all"])
def test_a_streamed_run_with_a_sub_agent(tmp_path: Path, chunks: str) -> None:
    memory = InMemoryExporter()
    with Sidecar(memory, JSONLExporter(tmp_path, chunks=chunks)) as sidecar:  # type: ignore[arg-type]
        pieces = asyncio.run(_converse(sidecar))

    outer, inner = log.runs(tmp_path)
    assert (outer.agent_name, inner.agent_name) == ("support", "helper")
    assert {outer.outcome, inner.outcome} == {"completed"}
    assert (outer.missing, inner.missing, outer.duplicates, inner.duplicates) == (0, 0, 0, 0)
    assert outer.events + inner.events == len(memory.events)
    assert (inner.parent_run_id, outer.sub_agents) == (outer.run_id, 1)

    run = log.load_run(tmp_path, outer.run_id)
    answer = next(part for step in reversed(run.steps) for part in step.parts if part.kind == "text")
    assert [delta.text for delta in answer.deltas] == pieces
    assert [delta.at for delta in answer.deltas] == sorted(delta.at for delta in answer.deltas)
    (tool,) = (step for step in run.steps if step.kind == "tool")
    (sub_run,) = tool.children
    assert sub_run.run is not None
    assert (sub_run.run.summary, sub_run.output) == (inner, "the helper says so")
    assert run.output == "one two three four"


def test_the_events_are_those_that_every_exporter_had(tmp_path: Path) -> None:
    memory = InMemoryExporter()
    with Sidecar(memory, JSONLExporter(tmp_path)) as sidecar:
        asyncio.run(_converse(sidecar))
    assert sorted(keys(log.read(tmp_path))) == sorted(keys(memory.events))
