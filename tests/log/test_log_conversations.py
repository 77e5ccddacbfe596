"""Conversations: totals of the runs with the same conversation id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidestream import log
from tests.support.log_builder import run_events, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A conversation of two turns, the first with a sub-agent, the second lost; one of one turn; a run without any."""
    sub_agent: dict[str, Any] = {"parent_run_id": "one", "root_run_id": "one", "conversation_id": "c-1"}
    events = [
        *run_events("one", conversation_id="c-1", tags={"user": "a"}),
        *run_events("one-sub", agent="billing", minutes=0.01, **sub_agent),
        *run_events("two", conversation_id="c-2", minutes=30),
        *run_events("three", agent="sales", conversation_id="c-1", minutes=60, ended=False, tags={"user": "b"}),
        *run_events("apart", minutes=90),
    ]
    write(tmp_path / "a.jsonl", events)
    return tmp_path


def test_a_conversation_is_its_turns_added_up(folder: Path) -> None:
    """The conversation with the latest turn is last; a run without a conversation id is in none."""
    second, first = log.conversations(folder)
    assert second.conversation_id == "c-2"
    assert (first.conversation_id, first.turns, first.runs) == ("c-1", ["one", "three"], 3)
    assert first.agents == ["support", "sales"]
    assert (first.cost_usd, first.total_tokens) == (0.09, 1200)
    assert first.usage is not None
    assert first.usage.input_tokens == 900
    assert first.outcomes == {"completed": 1, "lost": 1}
    assert first.last_outcome == "lost"
    assert first.tags == {"user": "b"}
    assert first.duration_seconds == pytest.approx(1.5 + 1.4)
    assert first.started is not None
    assert first.last is not None
    assert (first.last - first.started).total_seconds() == 3600


def test_a_lower_bound_stays_one(folder: Path) -> None:
    """The usage of one turn is a lower bound, and therefore that of the conversation."""
    second, first = log.conversations(folder)
    assert (first.cost_is_lower_bound, first.usage_is_lower_bound) == (True, True)
    assert (second.cost_is_lower_bound, second.usage_is_lower_bound) == (False, False)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"agents": ["billing"]}, "c-1"),
        ({"outcomes": ["lost"]}, "c-1"),
        ({"conversations": ["c-2"]}, "c-2"),
        ({"since": "2026-11-20T09:20Z"}, "c-2 c-1"),
        ({"tags": ["user=a"]}, "c-1"),
        ({"min_cost": 1}, ""),
    ],
)
def test_one_run_that_is_taken_takes_the_whole_conversation(
    folder: Path, where: dict[str, list[str]], expected: str
) -> None:
    found = log.conversations(folder, log.Filter.parse(**where))  # type: ignore[arg-type]
    assert [each.conversation_id for each in found] == expected.split()
    assert all(each.runs == 3 for each in found if each.conversation_id == "c-1")
