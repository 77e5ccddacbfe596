"""Code of programs written for the streaming guide, unchanged except for the import."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from sidestream import ConsoleExporter, Sidecar, StreamEvent, TraceContext, encode_line, run_stream
from sidestream.events import AgentEnd, AgentStart, StreamEventType


def agent() -> Agent[Any, str]:
    made: Agent[Any, str] = Agent(TestModel(custom_output_text="done"), name="assistant")

    @made.tool_plain
    def look(at: str) -> dict[str, list[int]]:
        return {at: [1, 2]}

    return made


async def _events(**options: Any) -> list[StreamEvent]:
    return [event async for event in run_stream(agent(), "look", **options)]


@pytest.fixture
def events() -> list[StreamEvent]:
    return asyncio.run(_events())


def test_each_event_is_a_line_of_json(events: list[StreamEvent]) -> None:
    for event in events:
        entry = {"event_type": event.event_type, "timestamp": event.timestamp.isoformat(), "data": event.data}
        assert json.loads(json.dumps(entry))["data"] == json.loads(encode_line(event))["data"]


def test_data_is_a_dict_whose_fields_are_attributes(events: list[StreamEvent]) -> None:
    (end,) = [event.data for event in events if event.event_type == StreamEventType.AGENT_END]
    assert issubclass(type(end), dict)
    assert (end["success"], end.success, end.get("total_cost_usd", 0.0)) == (True, True, 0.0)
    assert ("exception_type" in end, end.exception_type) == (False, None)
    with pytest.raises(AttributeError, match="'EventData' object has no attribute 'nonsense'"):
        _ = end.nonsense
    with pytest.raises(KeyError):
        _ = end["exception_type"]


def test_data_can_be_copied_and_pickled(events: list[StreamEvent]) -> None:
    for event in events:
        for made in (copy.deepcopy(event.data), pickle.loads(pickle.dumps(event.data))):
            assert made == event.data


def test_the_payload_itself_is_there(events: list[StreamEvent]) -> None:
    assert isinstance(events[0].data.struct, AgentStart)
    assert isinstance(events[-1].data.struct, AgentEnd)


def test_a_stream_of_events_can_be_tapped() -> None:
    from sidestream import InMemoryExporter

    memory = InMemoryExporter()

    async def main() -> None:
        async for _ in sidecar.tap(run_stream(agent(), "look")):
            pass

    with Sidecar(memory) as sidecar:
        asyncio.run(main())
    assert [event.data.outcome for event in memory.of("agent_end")] == ["completed"]
    assert [event.data.tool_name for event in memory.of("tool_end")] == ["look"]


@dataclass
class Deps:
    trace_context: TraceContext | None = None
    files: list[str] = field(default_factory=list)


def test_the_guides_tracing_reports_to_the_console() -> None:
    out = io.StringIO()
    trace_context = TraceContext(exporters=[ConsoleExporter(verbose=True, stream=out)])
    asyncio.run(_events(deps=Deps(trace_context=trace_context)))
    trace_context.close()
    assert "look" in out.getvalue()
    assert "done" in out.getvalue()


def test_a_sidecar_that_is_given_beats_that_of_the_dependencies() -> None:
    out, other = io.StringIO(), io.StringIO()
    with (
        Sidecar(ConsoleExporter(stream=other)) as sidecar,
        TraceContext([ConsoleExporter(stream=out)]) as trace_context,
    ):
        asyncio.run(_events(deps=Deps(trace_context=trace_context), sidecar=sidecar))
    assert (out.getvalue(), bool(other.getvalue())) == ("", True)
