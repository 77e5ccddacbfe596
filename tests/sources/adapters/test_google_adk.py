"""Events of Google's Agent Development Kit in the wire format of its server, read by the adapter."""

from __future__ import annotations

from typing import Any

import pytest

from sidestream.testing.adapters import events_of, outline

CALL = {"functionCall": {"id": "adk-1", "name": "look", "args": {"at": "A-1"}}}
GAVE = {"functionResponse": {"id": "adk-1", "name": "look", "response": {"result": "it is at A-1"}}}


def event(*parts: dict[str, Any], author: str = "finder", **more: Any) -> dict[str, Any]:
    content = {"parts": list(parts), "role": "model"}
    return {"invocationId": "e-1", "author": author, "id": "1", "content": content, **more}


def answer(*parts: dict[str, Any], taken: int = 0, **more: Any) -> dict[str, Any]:
    used = {"promptTokenCount": 1000, "candidatesTokenCount": taken, "cachedContentTokenCount": 400}
    return event(*parts, modelVersion="gemini-2.5-flash", usageMetadata=used, **more)


PIECES = [
    answer({"text": "I will "}, partial=True),
    answer({"text": "look."}, partial=True),
    answer(CALL, taken=20, partial=True, finishReason="STOP"),
]
WHOLE = [
    answer({"text": "I will look."}, CALL, taken=20, partial=False, finishReason="STOP"),
    event(GAVE),
    answer({"text": "at A-1"}, taken=4, finishReason="STOP"),
]


@pytest.mark.parametrize("in_pieces", [False, True])
def test_answers_and_tools(in_pieces: bool) -> None:
    events = events_of([*PIECES, *WHOLE] if in_pieces else WHOLE)
    assert outline(events) == [
        ("request", "gemini-2.5-flash"),
        ("text", "I will look."),
        ("tool_call", "look", '{"at": "A-1"}'),
        ("request ends", "ok", "tool_call", (1000, 20)),
        ("tool", "look", {"at": "A-1"}),
        ("tool ends", "look", "ok"),
        ("request", "gemini-2.5-flash"),
        ("text", "at A-1"),
        ("request ends", "ok", "stop", (1000, 4)),
        ("run ends", "completed"),
    ]
    assert events[-1].data.cost_usd == pytest.approx((1200 * 0.3 + 800 * 0.03 + 24 * 2.5) / 1e6)
    first = next(each.data for each in events if each.event_type == "llm_end")
    assert (first.time_to_first_token_seconds is not None) == in_pieces


def test_another_agent_and_one_without_a_model() -> None:
    told = outline(events_of([*WHOLE[:2], event({"text": "done"}, author="clerk")]))
    assert told[-3:] == [("custom", "handoff"), ("custom", "message"), ("run ends", "completed")]


def test_failures() -> None:
    failed = {"functionResponse": {"id": "adk-1", "name": "look", "response": {"error": "no such place"}}}
    assert ("tool ends", "look", "failed") in outline(events_of([WHOLE[0], event(failed)]))
    broken = answer(partial=True, errorCode="SAFETY", errorMessage="blocked")
    told = outline(events_of([PIECES[0], broken]))
    assert told[-3:] == [
        ("error", "model", "SAFETY"),
        ("request ends", "error", None, (1000, 0)),
        ("run ends", "error"),
    ]


def test_a_stream_that_is_cut_off() -> None:
    assert outline(events_of(PIECES[:2]))[-1] == ("run ends", "error")
