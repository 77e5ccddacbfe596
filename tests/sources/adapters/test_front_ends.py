"""Front-end protocols AG-UI and Vercel, as sent by pydantic-ai over HTTP: received and tapped."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel

from sidestream.testing.adapters import events_of, outline
from tests.support.loopback import served
from tests.support.tapped_streams import Watching

httpx = pytest.importorskip("httpx")
starlette = pytest.importorskip("starlette.applications")


def agent(fails: bool = False) -> Agent[None, str]:
    async def answer(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if any(isinstance(part, ToolReturnPart) for message in messages for part in message.parts):
            yield "It is "
            if fails:
                raise ConnectionError("gone")
            yield "there."
        else:
            yield {0: DeltaThinkingPart(content="Let me see.")}
            yield {1: DeltaToolCall("look", '{"at": ', tool_call_id="c1")}
            yield {1: DeltaToolCall(json_args='"A-1"}')}

    made: Agent[None, str] = Agent(FunctionModel(stream_function=answer))

    @made.tool_plain
    def look(at: str) -> str:
        if at != "A-1":
            raise ModelRetry("no such place")
        return f"seen {at}"

    return made


@pytest.fixture(params=["ag-ui", "vercel"])
def protocol(request: pytest.FixtureRequest) -> str:
    protocol: str = request.param
    return protocol


def app(protocol: str, fails: bool) -> Any:
    from pydantic_ai.ui.ag_ui import AGUIAdapter
    from pydantic_ai.ui.vercel_ai import VercelAIAdapter
    from starlette.routing import Route

    kind: Any = AGUIAdapter if protocol == "ag-ui" else VercelAIAdapter

    async def answer(request: Any) -> Any:
        return await kind.dispatch_request(request, agent=agent(fails))

    return starlette.Starlette(routes=[Route("/", answer, methods=["POST"])])


ASKED: dict[str, dict[str, Any]] = {
    "ag-ui": {
        "threadId": "t",
        "runId": "r",
        "state": {},
        "messages": [{"id": "m", "role": "user", "content": "?"}],
        "tools": [],
        "context": [],
        "forwardedProps": None,
    },
    "vercel": {
        "trigger": "submit-message",
        "id": "c",
        "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "?"}]}],
    },
}


def lines(protocol: str, fails: bool = False) -> Iterator[str]:
    with served(app(protocol, fails)) as url, httpx.Client(trust_env=False, timeout=30) as client:
        with client.stream("POST", url, json=ASKED[protocol]) as response:
            response.raise_for_status()
            yield from response.iter_lines()


FIRST = [
    ("request", "unknown"),
    ("thinking", "Let me see."),
    ("tool_call", "look", '{"at": "A-1"}'),
    ("request ends", "ok", None, None),
    ("tool", "look", None),
    ("tool ends", "look", "ok"),
    ("request", "unknown"),
]


def test_a_run_with_thinking_a_tool_and_an_answer(watching: Watching, protocol: str) -> None:
    list(watching.sidecar.tap(lines(protocol), adapter="sse"))
    assert outline(watching.events()) == [
        *FIRST,
        ("text", "It is there."),
        ("request ends", "ok", None, None),
        ("run ends", "completed"),
    ]
    (tool,) = watching.events("tool_end")
    assert (tool.data.result, tool.data.tool_call_id, tool.data.duration_seconds) == ("seen A-1", "c1", None)


def test_a_run_that_fails(watching: Watching, protocol: str) -> None:
    list(watching.sidecar.tap(lines(protocol, fails=True), adapter="sse"))
    told = outline(watching.events())
    assert told[:8] == [*FIRST, ("text", "It is ")]
    assert told[8][:2] == ("error", "run")
    assert told[-1] == ("run ends", "error")


def test_a_run_that_is_cut_off_is_not_completed(watching: Watching, protocol: str) -> None:
    whole = list(lines(protocol))
    cut = next(i for i, line in enumerate(whole) if "seen A-1" in line)
    list(watching.sidecar.tap(whole[: cut + 2], adapter="sse"))
    assert (watching.outcome(), watching.ends()[0].exception_type) == ("error", "IncompleteStream")


def test_the_protocols_items_themselves(protocol: str) -> None:
    """As dicts, recognized from the first item; and as objects of pydantic-ai or the protocol."""
    data = [line.removeprefix("data: ") for line in lines(protocol) if line.startswith("data: {")]
    items = [json.loads(each) for each in data]
    assert outline(events_of(items))[:3] == FIRST[:3]
    if protocol == "ag-ui":
        core = pytest.importorskip("ag_ui.core")
        from pydantic import TypeAdapter

        objects = [TypeAdapter(core.Event).validate_python(item) for item in items]
        assert outline(events_of(objects)) == outline(events_of(items))
