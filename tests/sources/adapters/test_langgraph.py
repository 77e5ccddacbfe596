"""LangGraph over a provider's server on this machine, tapped in each of its modes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sidestream.testing.adapters import outline
from tests.support.provider_clients import body_of
from tests.support.provider_server import Exchange, replay
from tests.support.sdk_answers import streamed, whole
from tests.support.sdk_observed import EVENTS, JSON
from tests.support.tapped_streams import Watching

langgraph = pytest.importorskip("langgraph.graph")
tools = pytest.importorskip("langchain_core.tools")
openai = pytest.importorskip("langchain_openai")

USED = {"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34}
HEAD = {"id": "c2", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini"}


@tools.tool  # type: ignore[untyped-decorator, unused-ignore]
def look(at: str) -> str:
    """Look."""
    return f"it is at {at}"


def exchanges(stream: bool) -> list[Exchange]:
    """A tool call, and an answer."""
    if not stream:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "at A-1"}}
        second = json.dumps({**HEAD, "object": "chat.completion", "choices": [choice], "usage": USED}).encode()
        return [Exchange("POST", "http://x/", None, 200, JSON, body) for body in (whole("chat"), second)]
    deltas: list[tuple[dict[str, Any], str | None]] = [({"content": "at "}, None), ({"content": "A-1"}, "stop")]
    chunks = [{**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": over}]} for delta, over in deltas]
    body = body_of([*chunks, {**HEAD, "choices": [], "usage": USED}], done=True)
    return [Exchange("POST", "http://x/", None, 200, EVENTS, each) for each in (streamed("chat"), body)]


def graph(url: str) -> Any:
    from langgraph.prebuilt import ToolNode

    model = openai.ChatOpenAI(model="gpt-5-mini", base_url=url, api_key="none", max_retries=0, stream_usage=True)
    bound = model.bind_tools([look])

    async def agent(state: Any) -> Any:
        return {"messages": [await bound.ainvoke(state["messages"])]}

    made = langgraph.StateGraph(langgraph.MessagesState)
    made.add_node("agent", agent)
    made.add_node("tools", ToolNode([look]))
    made.add_edge(langgraph.START, "agent")
    made.add_conditional_edges("agent", lambda s: "tools" if s["messages"][-1].tool_calls else langgraph.END)
    made.add_edge("tools", "agent")
    return made.compile(name="finder")


@pytest.mark.parametrize("mode", ["messages", "updates", "values", "tasks", "debug", ["messages", "updates"], "events"])
def test_each_mode_tells_the_same(watching: Watching, mode: Any) -> None:
    """Requests, tools and nodes; tokens as they come where the mode has tokens. The adapter is found by the items."""
    streams = mode in ("messages", "events") or isinstance(mode, list)
    given = {"messages": [("user", "Where?")]}

    async def main(url: str) -> list[Any]:
        made = graph(url)
        events = made.astream_events(given, version="v2") if mode == "events" else made.astream(given, stream_mode=mode)
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
