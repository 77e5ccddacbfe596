"""Output of Claude's command-line program, read by the adapter for the Claude Agent SDK."""

from __future__ import annotations

from typing import Any

import pytest

from sidestream.testing.adapters import events_of, outline
from tests.support.claude_agent_runs import CALL, IN_PIECES, INIT, MODEL, TEXT, WHOLE, result, said, tool_gave


def rows(items: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return outline(events_of(items))


@pytest.mark.parametrize("in_pieces", [False, True])
def test_answers_tools_and_the_result(in_pieces: bool) -> None:
    """Recognized from the items. The sum of the answers' output tokens equals the result's."""
    events = events_of(IN_PIECES if in_pieces else WHOLE)
    first, second = ((1000, 20), (1000, 4)) if in_pieces else ((1000, 1), (1000, 23))
    assert [row for row in outline(events) if row[0] != "thinking"] == [
        ("request", MODEL),
        ("text", "I will look."),
        ("tool_call", "Bash", '{"command": "ls"}'),
        ("request ends", "ok", "tool_call", first),
        ("tool", "Bash", {"command": "ls"}),
        ("tool ends", "Bash", "ok"),
        ("request", MODEL),
        ("text", "at A-1"),
        ("request ends", "ok", "stop", second),
        ("custom", "result"),
        ("result", "at A-1"),
        ("run ends", "completed"),
    ]
    end = events[-1].data
    assert end.cost_usd == pytest.approx((1200 * 3 + 800 * 0.3 + 24 * 15) / 1e6)
    answers = [event.data for event in events if event.event_type == "llm_end"]
    assert [answer.time_to_first_token_seconds is not None for answer in answers] == [in_pieces, in_pieces]


def test_answers_of_a_sub_agent_are_requests_while_its_tool_runs() -> None:
    inner = said("m-2", {"type": "text", "text": "found"}, below="call_1")
    told = rows([INIT, said("m-1", CALL), inner, tool_gave("call_1", "found"), said("m-3", TEXT), result(3, 9)])
    assert [row[0] for row in told] == [
        *("request", "tool_call", "request ends", "tool", "request", "text", "request ends", "tool ends"),
        *("request", "text", "request ends", "custom", "result", "run ends"),
    ]


def test_a_result_that_counts_otherwise_changes_no_answer() -> None:
    told = rows([INIT, said("m-1", TEXT), result(5, 100)])
    assert told[2] == ("request ends", "ok", "stop", (1000, 1))


def test_failures() -> None:
    failed = rows([INIT, said("m-1", CALL), tool_gave("call_1", "no", is_error=True), said("m-2", TEXT)])
    assert ("tool ends", "Bash", "failed") in failed
    assert failed[-1] == ("run ends", "error")  # there is no result
    limit = {"subtype": "error_max_turns", "is_error": True, "result": None}
    told = rows([INIT, said("m-1", TEXT), result(1, 9, **limit)])
    assert told[-2:] == [("error", "run", "error_max_turns"), ("run ends", "error")]
    stopped = rows([INIT, said("m-1", TEXT), result(1, 9, is_error=True, terminal_reason="aborted_streaming")])
    assert stopped[-1] == ("run ends", "cancelled")
