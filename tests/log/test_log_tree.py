"""Tree of one run: steps, content with times, sub-agents, and the location of each event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidestream import ConfigurationError, log
from sidestream.events import (
    AgentEnd,
    AgentStart,
    Custom,
    Error,
    LLMEnd,
    LLMStart,
    StreamEvent,
    ToolEnd,
    ToolStart,
)
from sidestream.recording.content import ContentPolicy, apply_policy
from tests.support.log_builder import run_events, sequence, write
from tests.support.run_events import chunk


def outline(run: log.RunLog) -> list[tuple[int, str, str]]:
    return [(depth, step.kind, step.name) for depth, _, step in run.walk()]


def test_steps_are_in_order_and_hold_what_happened_within_them(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", run_events("one"))
    run = log.load_run(tmp_path, "one")
    assert outline(run) == [
        (0, "request", "gpt-4o"),
        (0, "tool", "look_up"),
        (1, "error", "KeyError"),
        (1, "retry", "model_retry"),
        (0, "request", "gpt-4o"),
        (0, "final_result", "str"),
    ]


def test_a_request_has_its_answer_and_its_numbers(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", run_events("one"))
    first, _, second, _ = log.load_run(tmp_path, "one").steps
    assert (first.start, first.duration_seconds, first.outcome, first.cost_usd) == (0.1, 0.2, "ok", 0.01)
    assert first.usage is not None
    assert (first.usage.total_tokens, first.time_to_first_token_seconds, first.provider) == (200, 0.1, "openai")
    assert (first.input, first.request, first.streaming) == ("be brief", 1, True)
    (part,) = first.parts
    assert (part.kind, part.tool_name, part.tool_call_id, part.text) == (
        "tool_call",
        "look_up",
        "call_1",
        '{"order": "4711"}',
    )
    (part,) = second.parts
    assert part.text == "It left on Monday."
    assert [(delta.at, delta.text) for delta in part.deltas] == [
        (1.0, "It "),
        (1.01, "left "),
        (1.02, "on Mon"),
        (1.1, "day."),
    ]


def test_a_tool_call_has_its_arguments_and_what_came_of_it(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", run_events("one"))
    tool = log.load_run(tmp_path, "one").steps[1]
    assert (tool.start, tool.duration_seconds, tool.outcome, tool.attempt) == (0.5, 0.1, "retry", 1)
    assert (tool.input, tool.output, tool.error) == ({"order": "4711"}, None, "not found")
    error, retry = tool.children
    assert (error.error, error.where, retry.output, retry.attempt) == ("not found", "tool", "try again", 1)


def test_the_conversation_reads_as_it_was_led(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", run_events("one"))
    messages = log.load_run(tmp_path, "one").messages()
    assert [(message.role, message.content) for message in messages] == [
        ("user", "prompt of one"),
        ("instructions", "be brief"),
        ("tool_call", '{"order": "4711"}'),
        ("tool_result", "not found"),
        ("error", "not found"),
        ("retry", "try again"),
        ("assistant", "It left on Monday."),
        ("output", "It left on Monday."),
    ]


def test_each_event_has_its_place(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [*run_events("other"), *run_events("one")[:4]])
    write(tmp_path / "b.jsonl", run_events("one")[4:])
    events = log.load_run(tmp_path, "one").events
    assert [(Path(each.file).name, each.line) for each in events] == [
        *(("a.jsonl", line) for line in range(17, 21)),
        *(("b.jsonl", line) for line in range(1, 13)),
    ]
    assert [each.event.seq for each in events] == list(range(16))


def test_sub_agents_are_within_the_tool_calls_that_started_them(tmp_path: Path) -> None:
    links: dict[str, Any] = {"root_run_id": "root", "parent_link": "tool"}
    events: list[StreamEvent] = [
        *run_events("root"),
        *run_events("child", agent="billing", parent_run_id="root", parent_tool_call_id="call_1", minutes=1, **links),
        *run_events("grandchild", agent="bank", parent_run_id="child", minutes=1, **links),
    ]
    write(tmp_path / "a.jsonl", events)
    root = log.load_run(tmp_path, "root")
    assert [each.summary.run_id for each in root.runs()] == ["root", "child", "grandchild"]
    kinds = [(depth, kind, name) for depth, kind, name in outline(root) if kind in ("tool", "run")]
    assert kinds == [
        (0, "tool", "look_up"),
        (1, "run", "billing"),
        (2, "run", "bank"),
        (3, "tool", "look_up"),
        (2, "tool", "look_up"),
    ]
    # The child's wall clock is a minute ahead: the clock was changed, because the tool call was over by then.
    child = root.steps[1].children[-1]
    assert child.start == pytest.approx(0.6)
    assert child.run is not None
    assert child.run.start == pytest.approx(0.6)
    assert (child.input, child.cost_usd) == ("prompt of child", 0.03)
    assert [each.summary.run_id for each in log.load_run(tmp_path, "child").runs()] == ["child", "grandchild"]


def test_a_step_without_an_end_has_no_outcome(tmp_path: Path) -> None:
    payloads = [
        AgentStart(root_run_id="one"),
        LLMStart(request=1, model="m", streaming=True),
        ToolStart(tool_name="t", tool_call_id="c"),
    ]
    write(tmp_path / "a.jsonl", sequence(payloads, "one"))
    run = log.load_run(tmp_path, "one")
    assert [(step.outcome, step.duration_seconds) for step in run.steps] == [(None, None)] * 2
    assert run.summary.outcome == "lost"


def test_what_has_no_beginning_is_there_all_the_same(tmp_path: Path) -> None:
    payloads = [
        AgentStart(root_run_id="one"),
        chunk("a", "b", request=3),
        LLMEnd(request=3, outcome="ok", duration_seconds=0.15, model="m", usage_source="none"),
        LLMEnd(request=4, outcome="ok", duration_seconds=0.05, model="n", usage_source="none"),
        ToolEnd(tool_name="t", tool_call_id="c", outcome="ok", duration_seconds=0.1),
        Error(where="model", request=9),
        Custom(name="mine", payload=1, tool_name="gone", tool_call_id="gone"),
        AgentEnd(outcome="error", success=False, duration_seconds=1.0),
    ]
    write(tmp_path / "a.jsonl", sequence(payloads, "one")[1:])
    run = log.load_run(tmp_path, "one")
    assert outline(run) == [
        (0, "request", "model"),
        (0, "request", "n"),
        (0, "tool", "t"),
        (0, "error", "error"),
        (0, "custom", "mine"),
    ]
    assert run.steps[0].parts[0].text == "ab"
    assert (run.summary.missing, run.summary.outcome) == (1, "error")


def test_the_same_tool_twice_in_one_answer_keeps_apart(tmp_path: Path) -> None:
    payloads = [
        AgentStart(root_run_id="one"),
        ToolStart(tool_name="t", tool_call_id="a", args=1),
        ToolStart(tool_name="t", tool_call_id="b", args=2),
        ToolEnd(tool_name="t", tool_call_id="b", outcome="ok", result=20),
        ToolEnd(tool_name="t", tool_call_id="a", outcome="ok", result=10),
    ]
    write(tmp_path / "a.jsonl", sequence(payloads, "one"))
    steps = log.load_run(tmp_path, "one").steps
    assert [(step.input, step.output) for step in steps] == [(1, 10), (2, 20)]


@pytest.mark.parametrize("policy", ["none", "metadata", "truncated(3)"])
def test_a_log_without_content_has_its_steps_and_times(tmp_path: Path, policy: str) -> None:
    kept = [apply_policy(event, ContentPolicy.parse(policy), None) for event in run_events("one")]
    write(tmp_path / "a.jsonl", kept)
    run = log.load_run(tmp_path, "one")
    assert len(outline(run)) == 6
    (part,) = run.steps[2].parts
    if policy == "truncated(3)":
        assert part.text == "It … (+11 characters)day… (+1 characters)"
    else:
        assert part.text is None
        assert [(delta.at, delta.text) for delta in part.deltas] == [
            (1.0, None),
            (1.01, None),
            (1.02, None),
            (1.1, None),
        ]
    assert len(run.messages()) >= 4


def test_the_beginning_of_an_id_is_enough(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [*run_events("abc1"), *run_events("abd2"), *run_events("ab")])
    assert log.load_run(tmp_path, "abc").summary.run_id == "abc1"
    assert log.load_run(tmp_path, "ab").summary.run_id == "ab"
    with pytest.raises(ConfigurationError, match=r"run 'a' could be any of 3: ab, abc1, abd2"):
        log.load_run(tmp_path, "a")
    with pytest.raises(ConfigurationError, match=r"no run 'x' in .*: `sidestream runs` lists"):
        log.load_run(tmp_path, "x")
    with pytest.raises(ConfigurationError):
        log.load_run(tmp_path, "")


def test_a_circle_of_runs_is_no_endless_tree(tmp_path: Path) -> None:
    """Only a foreign writer makes such a log."""
    events = [
        *run_events("a", parent_run_id="b", root_run_id="a"),
        *run_events("b", parent_run_id="a", root_run_id="a"),
    ]
    write(tmp_path / "a.jsonl", events)
    assert [each.summary.run_id for each in log.load_run(tmp_path, "a").runs()] == ["a", "b"]
