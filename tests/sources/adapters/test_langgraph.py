"""LangGraph with a local provider, tapped in each of its modes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidestream.testing.adapters import outline
from tests.support.langgraph_runs import GIVEN, exchanges, graph
from tests.support.provider_server import replay
from tests.support.tapped_streams import Watching


@pytest.mark.parametrize("mode", ["messages", "updates", "values", "tasks", "debug", ["messages", "updates"], "events"])
def test_each_mode_tells_the_same(watching: Watching, mode: Any) -> None:
    """Requests, tools and nodes, with single tokens if the mode has tokens; recognized from the items."""
    streams = mode in ("messages", "events") or isinstance(mode, list)

    async def main(url: str) -> list[Any]:
        made = graph(url)
        events = made.astream_events(GIVEN, version="v2") if mode == "events" else made.astream(GIVEN, stream_mode=mode)
        return [item async for item in watching.sidecar.tap(events, agent_name="finder")]

    with replay(exchanges(streams)) as server:
        assert asyncio.run(main(server.url))
    told = [row for row in outline(watching.events()) if row != ("custom", "node")]
    assert told == [
        ("request", "gpt-5-mini"),
        ("text", "I will look."),
        ("tool_call", "look", '{"at": "A-1"}'),
        ("request ends", "ok", "tool_call", (1000, 20)),
        ("tool", "look", {"at": "A-1"} if mode == "events" else None),
        ("tool ends", "look", "ok"),
        ("request", "gpt-5-mini"),
        ("text", "at A-1"),
        ("request ends", "ok", "stop", (30, 4)),
        ("run ends", "completed"),
    ]
    nodes = [event.data.payload["node"] for event in watching.events("custom")]
    assert nodes == ([] if mode == "values" else ["agent", "tools", "agent"])
    first, _ = [event.data for event in watching.events("llm_end")]
    assert first.cost_usd == pytest.approx((600 * 0.25 + 400 * 0.025 + 20 * 2) / 1e6)
    assert (first.provider, first.response_model) == ("openai", "gpt-5-mini")
    assert (first.time_to_first_token_seconds is None) != streams
