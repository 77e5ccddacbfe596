"""Differences between two runs, and no others."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sidestream import log
from sidestream.events import LLMStart, Payload, StreamEvent, ToolEnd, ToolStart
from tests.support.log_builder import run_events, sequence, write
from tests.support.run_events import chunk


def compared(folder: Path, a: list[StreamEvent], b: list[StreamEvent]) -> log.RunDiff:
    write(folder / "a.jsonl", [*a, *b])
    return log.diff(log.load_run(folder, a[0].run_id), log.load_run(folder, b[0].run_id))


def steps(found: log.RunDiff) -> list[tuple[str, str, list[str]]]:
    return [
        (each.status, step.name, [change.what for change in each.changes])
        for each in found.steps
        if (step := each.a or each.b) is not None
    ]


def test_two_runs_that_did_the_same_differ_in_nothing(tmp_path: Path) -> None:
    found = compared(tmp_path, run_events("one"), run_events("two", minutes=5, prompt="prompt of one"))
    assert found.facts == []
    assert {status for status, *_ in steps(found)} == {"same"}
    assert found.same


def test_another_prompt(tmp_path: Path) -> None:
    found = compared(tmp_path, run_events("one"), run_events("two"))
    assert [(change.what, change.a, change.b) for change in found.facts] == [
        ("prompt", "prompt of one", "prompt of two")
    ]
    assert not found.same


def test_another_model(tmp_path: Path) -> None:
    found = compared(tmp_path, run_events("one", prompt="p"), run_events("two", model="claude", prompt="p"))
    assert [(change.what, change.a, change.b) for change in found.facts] == [("model", "gpt-4o", "claude")]
    assert [(status, name) for status, name, _ in steps(found)][:2] == [("only_a", "gpt-4o"), ("only_b", "claude")]


def changed(events: list[StreamEvent], seq: int, data: Payload) -> list[StreamEvent]:
    (event,) = sequence([data], events[0].run_id)
    return [msgspec.structs.replace(each, data=event.data) if each.seq == seq else each for each in events]


def test_another_argument_and_another_result(tmp_path: Path) -> None:
    a, b = run_events("one", prompt="p"), run_events("two", prompt="p")
    b = changed(b, 5, ToolStart(tool_name="look_up", tool_call_id="call_1", args={"order": "4712"}, attempt=1))
    b = changed(b, 7, ToolEnd(tool_name="look_up", tool_call_id="call_1", outcome="ok", duration_seconds=0.1, result=1))
    found = compared(tmp_path, a, b)
    assert steps(found)[1] == ("changed", "look_up", ["outcome", "input", "output", "error"])
    assert not found.same


def test_times_tokens_and_cost_alone_do_not_make_a_step_another(tmp_path: Path) -> None:
    a, b = run_events("one", prompt="p"), run_events("two", prompt="p")
    end = msgspec.structs.replace(b[3].data, duration_seconds=0.9, cost_usd=0.05)
    found = compared(tmp_path, a, changed(b, 3, end))
    assert steps(found)[0] == ("same", "gpt-4o", ["duration_seconds", "cost_usd"])
    assert [change.difference for change in found.steps[0].changes] == pytest.approx([0.7, 0.04])
    assert found.same


def test_a_step_more(tmp_path: Path) -> None:
    a, b = run_events("one", prompt="p"), run_events("two", prompt="p")
    extra = sequence([*(event.data for event in b[:-2]), LLMStart(request=3, model="m", streaming=True)], "two")
    found = compared(tmp_path, a, [*extra[:-1], *b[-2:]])
    assert found.same
    found = compared(tmp_path, a, [*extra, *b[-1:]])
    assert ("only_b", "m", []) in steps(found)
    assert not found.same


def test_answers_are_compared_by_what_they_say_not_by_how_they_came(tmp_path: Path) -> None:
    a, b = run_events("one", prompt="p"), run_events("two", prompt="p")
    found = compared(tmp_path, a, changed(b, 10, chunk("It le", "ft on Mon", request=2)))
    assert found.same
    found = compared(tmp_path, a, changed(b, 10, chunk("It left on Tues", request=2)))
    (answer,) = (change for step in found.steps for change in step.changes)
    assert (answer.what, answer.a, answer.b) == ("answer", "It left on Monday.", "It left on Tuesday.")
