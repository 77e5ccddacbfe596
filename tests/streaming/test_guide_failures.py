"""Faults of an earlier module with the same function names, each as a test."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.types import ModelPrice

from sidestream import (
    Exporter,
    InMemoryExporter,
    Sidecar,
    StreamEvent,
    StreamEventType,
    collect_stream_result,
    decode_line,
    encode_line,
    run_stream,
    run_stream_with_tools,
    stream_tool_calls,
)
from tests.support.scripted_model import Call
from tests.support.talking_model import Log, agent_of, eventually, forever, model_of, of, run, texts_of, types_of


async def look_up(order: int) -> str:
    """Tool that looks up an order."""
    return f"order {order} is on its way"


def clerk(*more: Any, **settings: Any) -> Any:
    """Agent that calls a tool and then answers."""
    return agent_of([Call("look_up", '{"order": 7}'), *more], ["It is ", "coming."], tools=[look_up], **settings)


async def all_of(stream: Any) -> list[Any]:
    """All events of a stream."""
    return [event async for event in stream]


@pytest.mark.parametrize("function", [run_stream, run_stream_with_tools])
def test_an_early_aclose_raised(function: Any) -> None:
    """`aclose()` returns, after any number of events, also the second time."""

    async def main() -> None:
        for count in range(8):
            stream = function(clerk(), "?")
            for _ in range(count):
                await anext(stream)
            await stream.aclose()
            await stream.aclose()

    run(main())


def test_no_agent_end_on_break(log: Log) -> None:
    """The log contains an `agent_end` event."""

    async def main() -> None:
        async for event in run_stream(agent_of(["a", "b", forever]), "?", sidecar=log.sidecar):
            if event.event_type == StreamEventType.LLM_CHUNK:
                break
        await asyncio.sleep(0.05)

    run(main())
    assert log.endings == ["abandoned"]


def test_no_agent_end_on_cancel(log: Log) -> None:
    """The log contains an `agent_end` event."""

    async def main() -> None:
        task = asyncio.create_task(all_of(run_stream(agent_of(["a", forever]), "?", sidecar=log.sidecar)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert log.endings == ["cancelled"]


def test_run_stream_never_yielded_tool_events() -> None:
    """`run_stream` yields tool events."""
    events = run(all_of(run_stream(clerk(), "?")))
    assert [t for t in types_of(events) if t.startswith("tool")] == ["tool_start", "tool_end"]


def test_run_stream_lost_the_final_answer() -> None:
    """Text after the tool calls is yielded, and so is the result."""
    events = run(all_of(run_stream(clerk(), "?")))
    assert texts_of(events) == ["It is ", "coming."]
    assert of(events, "final_result")[0]["output"] == "It is coming."


def test_run_stream_with_tools_replayed_the_finished_history_in_slices() -> None:
    """Deltas of any length arrive while the model still writes."""
    seen: list[str] = []
    long = "x" * 120

    async def first_is_seen() -> None:
        await eventually(lambda: seen == [long])

    async def main() -> None:
        async for event in run_stream_with_tools(agent_of([long, first_is_seen, "y"]), "?"):
            if event.event_type == StreamEventType.LLM_CHUNK:
                seen.append(event.data["text"])

    run(main())
    assert seen == [long, "y"]


def test_old_messages_were_told_as_new() -> None:
    """Tool calls and texts of the message history cause no events."""

    async def main() -> list[StreamEvent]:
        result, _ = await collect_stream_result(clerk(), "?")
        agent = agent_of(["unused"], ["unused"], ["new"], tools=[look_up])
        return await all_of(run_stream_with_tools(agent, "and now?", None, result.all_messages()))

    events = run(main())
    assert texts_of(events) == ["new"]
    assert not of(events, "tool_start")


def test_tool_results_were_reported_as_tool_starts() -> None:
    """`tool_start` has the arguments, `tool_end` the result."""
    events = run(all_of(run_stream(clerk(), "?")))
    assert [data["args"] for data in of(events, "tool_start")] == [{"order": 7}]
    assert [data["result"] for data in of(events, "tool_end")] == ["order 7 is on its way"]
    assert run(all_of(stream_tool_calls(clerk(), "?"))) == [
        ("look_up", {"order": 7}, None),
        ("look_up", {"order": 7}, "order 7 is on its way"),
    ]


def test_the_collected_result_was_always_none() -> None:
    """The collected result is the run's own, with typed output, usage and messages."""

    agent = agent_of([Call("final_result", '{"response": 7}')], output_type=int)
    result, events = run(collect_stream_result(agent, "?"))
    assert result.output == 7
    assert result.usage.requests == 1
    assert events[-1].event_type == StreamEventType.AGENT_END


class TestCost:
    def test_cost_was_never_set(self) -> None:
        """`progress` and `agent_end` have a cost, which grows from request to request."""
        events = run(all_of(run_stream(clerk(), "?")))
        costs = [data.get("total_cost_usd", 0.0) for data in of(events, "progress")]
        assert 0 < costs[0] < costs[1]
        assert of(events, "agent_end")[0].cost_usd == costs[1]
        assert of(events, "progress")[1].total_tokens == of(events, "agent_end")[0].total_tokens > 0

    def test_the_sidecar_s_prices_are_the_stream_s(self) -> None:
        """Stream and log report the same cost."""
        price = ModelPrice(input_mtok=Decimal(1_000_000), output_mtok=Decimal(0))
        log = Log(settings={"prices": {"gpt-5": price}})
        events = run(all_of(run_stream(agent_of(["hi"]), "?", sidecar=log.sidecar)))
        assert of(events, "llm_end")[0].cost_source == "override"
        assert of(events, "agent_end")[0].cost_usd == of(log.events, "agent_end")[0].cost_usd >= 1
        log.sidecar.close()

    def test_an_unknown_cost_is_absent(self) -> None:
        """An unknown cost reads as the default given by the consumer."""
        events = run(all_of(run_stream(agent_of(), "?", model=model_of(["hi"], name="unheard-of"))))
        progress = of(events, "progress")[0]
        assert progress.get("total_cost_usd", 0.0) == 0.0
        assert "total_cost_usd" not in progress


class Raises(Exporter):
    """Exporter that raises."""

    name = "raises"
    interval = 0.01

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def export(self, events: Sequence[StreamEvent]) -> None:
        raise self.error


def test_a_raising_exporter_aborted_the_run() -> None:
    """A raising exporter changes nothing for the consumer, or for another exporter."""
    memory = InMemoryExporter()
    with Sidecar(Raises(RuntimeError("away")), memory) as sidecar:
        observed = run(all_of(run_stream(clerk(), "?", sidecar=sidecar)))
        assert types_of(observed) == types_of(run(all_of(run_stream(clerk(), "?"))))
    assert memory.of("agent_end")[0].data.outcome == "completed"


def test_two_runs_at_once_became_each_other_s_parents(log: Log) -> None:
    """Concurrent runs have no parent, whether started side by side or one in the body of the other."""

    async def main() -> list[StreamEvent]:
        events: list[StreamEvent] = []
        for some in await asyncio.gather(*(all_of(run_stream(clerk(), "?", sidecar=log.sidecar)) for _ in range(2))):
            events += some
        async for event in run_stream(clerk(), "?", sidecar=log.sidecar):
            events.append(event)
            if event.event_type == StreamEventType.TOOL_START:
                events += await all_of(run_stream(clerk(), "?", sidecar=log.sidecar))
        return events

    for start in (*of(run(main()), "agent_start"), *of(log.events, "agent_start")):
        assert start.parent_run_id is None
    assert len(of(log.events, "agent_start")) == 4


class Unspeakable:
    """Value that JSON cannot represent, and whose `repr` raises."""

    def __repr__(self) -> str:
        raise ValueError("no words")


def returning(value: Any) -> Any:
    """Output function that returns `value`."""

    def output() -> Any:
        return value

    return output


def test_values_that_json_cannot_hold_raised_into_the_agent(log: Log) -> None:
    """Events with such values can be encoded, and the run returns the values unchanged."""
    cycle: list[Any] = []
    cycle.append(cycle)
    values = [b"\xff", float("nan"), {(1, 2): "x"}, {1, 2}, 10**400, "\udc80", object(), Unspeakable(), cycle]

    for value in values:
        agent = agent_of([Call("final_result", "{}")], output_type=returning(value))
        result, events = run(collect_stream_result(agent, "?", sidecar=log.sidecar))
        assert result.output is value or result.output == value
        for event in (*events, *log.events):
            assert decode_line(encode_line(event))


def test_the_global_tracer_provider_was_replaced(log: Log) -> None:
    """The global tracer provider stays the application's."""
    from opentelemetry import trace

    before = trace.get_tracer_provider()
    run(all_of(run_stream(clerk(), "?", sidecar=log.sidecar)))
    assert trace.get_tracer_provider() is before
