"""The real Agent Development Kit with a local provider; skipped if it is not installed."""

from __future__ import annotations

import asyncio
import importlib
import json
from typing import Any

import pytest

from tests.support.provider_server import Exchange, replay
from tests.support.sdk_answers import streamed, whole
from tests.support.sdk_observed import EVENTS, JSON, Installed

agents = pytest.importorskip("google.adk.agents")


def look(at: str) -> str:
    """Look."""
    return f"it is at {at}"


def exchanges(streaming: bool) -> list[Exchange]:
    """A tool call, and a final answer."""
    candidate = {"content": {"parts": [{"text": "at A-1"}], "role": "model"}, "index": 0, "finishReason": "STOP"}
    used = {"promptTokenCount": 30, "candidatesTokenCount": 4}
    last = {"candidates": [candidate], "usageMetadata": used, "modelVersion": "gemini-2.5-flash", "responseId": "r-2"}
    if streaming:
        bodies = [streamed("content"), streamed("content", [last])]
    else:
        bodies = [whole("content"), json.dumps(last).encode()]
    return [Exchange("POST", "http://x/", None, 200, EVENTS if streaming else JSON, body) for body in bodies]


async def run(streaming: bool, tap: Any = lambda stream: stream) -> list[Any]:
    from google.genai import types

    model = importlib.import_module("google.adk.models.google_llm").Gemini(model="gemini-2.5-flash")
    config = importlib.import_module("google.adk.agents.run_config")
    agent = agents.Agent(name="finder", model=model, tools=[look])
    runner = importlib.import_module("google.adk.runners").InMemoryRunner(agent, app_name="app")
    session = await runner.session_service.create_session(app_name="app", user_id="user", session_id="s-1")
    stream = runner.run_async(
        user_id="user",
        session_id=session.id,
        new_message=types.Content(role="user", parts=[types.Part(text="Where?")]),
        run_config=config.RunConfig(
            streaming_mode=config.StreamingMode.SSE if streaming else config.StreamingMode.NONE
        ),
    )
    try:
        return [event async for event in tap(stream)]
    finally:
        await runner.close()


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("tapped", [False, True])
def test_a_run_is_told_once(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, streaming: bool, tapped: bool
) -> None:
    """Requests through Google's observed SDK are not recorded again; a tapped run is recorded by the tap."""
    tap = (lambda stream: installed.sidecar.tap(stream, agent_name="tapped")) if tapped else (lambda stream: stream)
    monkeypatch.setenv("GOOGLE_API_KEY", "none")
    with replay(exchanges(streaming)) as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        assert asyncio.run(run(streaming, tap))
    assert installed.outlines() == [
        [
            ("request", "gemini-2.5-flash"),
            ("text", "I will look."),
            ("tool_call", "look", '{"at": "A-1"}'),
            ("request ends", "ok", "tool_call", (1000, 20)),
            ("tool", "look", {"at": "A-1"}),
            ("tool ends", "look", "ok"),
            ("request", "gemini-2.5-flash"),
            ("text", "at A-1"),
            ("request ends", "ok", "stop", (30, 4)),
            ("run ends", "completed"),
        ]
    ]
    [events] = installed.runs()
    start = events[0]
    told = (start.agent_name, start.data.prompt, start.data.conversation_id)
    assert told == (("tapped", None, None) if tapped else ("finder", "Where?", "s-1"))
    assert events[-1].data.cost_usd == pytest.approx((630 * 0.3 + 400 * 0.03 + 24 * 2.5) / 1e6)
