"""LangGraph graph with a model and a tool, and the answers of its provider."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.provider_clients import body_of
from tests.support.provider_server import Exchange
from tests.support.sdk_answers import streamed, whole
from tests.support.sdk_observed import EVENTS, JSON

langgraph = pytest.importorskip("langgraph.graph")
tools = pytest.importorskip("langchain_core.tools")
openai = pytest.importorskip("langchain_openai")

GIVEN: dict[str, Any] = {"messages": [("user", "Where?")]}
USED = {"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34}
HEAD = {"id": "c2", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini"}


@tools.tool  # type: ignore[untyped-decorator, unused-ignore]
def look(at: str) -> str:
    """Look."""
    return f"it is at {at}"


def exchanges(stream: bool) -> list[Exchange]:
    """A tool call, and a final answer."""
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
