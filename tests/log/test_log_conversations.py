"""Conversations: totals of the runs with the same conversation id."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestream import log
from sidestream.log.index.packing import PartPacker
from sidestream.log.index.parts import RunPart
from sidestream.log.runs.conversations import conversation_page, conversations_of
from tests.support.log_builder import QUICK, run_events, write


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


# --- pages -----------------------------------------------------------------------------------------------------------

RUNS: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    conversation=st.sampled_from(["", "a", "b", "c", "d"]),
    agent=st.sampled_from(["support", "sales"]),
    minutes=st.integers(0, 5),
    ended=st.booleans(),
    file=st.integers(0, 2),
    child_file=st.integers(-1, 2),
)
"""Runs, most with a sub-agent, in three files; `child_file` -1: no sub-agent."""
FILTERS: list[dict[str, Any]] = [
    {},
    {"agents": ["billing"]},
    {"agents": ["sales"]},
    {"outcomes": ["lost"]},
    {"outcomes": ["completed"], "agents": ["s*"]},
    {"conversations": ["a", "d"]},
    {"outermost": True, "since": "2026-11-20T09:02Z"},
]


def write_runs(folder: Path, runs: list[dict[str, Any]], places: list[Path]) -> None:
    events: dict[Path, list[Any]] = defaultdict(list)
    for number, run in enumerate(runs):
        known: dict[str, Any] = {"conversation_id": run["conversation"] or None, "minutes": run["minutes"]}
        whole = run_events(f"r{number}", agent=run["agent"], ended=run["ended"], **known)
        events[places[run["file"]]] += whole
        if run["child_file"] >= 0:
            parent: dict[str, Any] = {"parent_run_id": f"r{number}", "root_run_id": f"r{number}"}
            child = run_events(f"r{number}-sub", agent="billing", minutes=run["minutes"], **parent)
            events[places[run["child_file"]]] += child[:9]
            events[places[run["file"]]] += child[9:]
    for place, its in events.items():
        place.parent.mkdir(exist_ok=True)
        write(place, its)


@given(
    runs=st.lists(RUNS, min_size=1, max_size=12),
    where=st.sampled_from(FILTERS),
    limit=st.integers(1, 3),
    folders=st.sampled_from([("one", "one", "one"), ("one", "two", "one")]),
)
@settings(parent=QUICK, max_examples=25)
def test_pages_together_are_the_list(
    runs: list[dict[str, Any]], where: dict[str, Any], limit: int, folders: tuple[str, ...]
) -> None:
    """Whatever is running, in several files, or in several folders, each of which has an index of its own."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sidestream.log.index.store.WORTHWHILE", 0)
        places = [Path(name) / folder / f"{number}.jsonl" for number, folder in enumerate(folders)]
        write_runs(Path(name), runs, places)
        paths = sorted({str(place.parent) for place in places if place.exists()})
        narrowed = log.Filter.parse(**where)
        expected = conversations_of(log.runs(paths), narrowed)[::-1]
        pages = [conversation_page(paths, narrowed, limit=limit, offset=at) for at in range(0, 6, limit)]
        assert [each for page in pages for each in page.conversations] == expected
        assert {page.total for page in pages} == {len(expected)}
        assert log.conversations(paths, narrowed) == expected[::-1]


@pytest.mark.parametrize("where", [{}, {"agents": ["supp*"]}], ids=["all", "filtered"])
def test_a_page_reads_the_runs_of_its_own_conversations_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: dict[str, Any]
) -> None:
    """Of 400 runs 20, and of a longer log no more."""
    monkeypatch.setattr("sidestream.log.index.store.WORTHWHILE", 0)
    known = [run_events(f"r{number}", conversation_id=f"c{number // 2}", minutes=number) for number in range(400)]
    write(tmp_path / "a.jsonl", [event for run in known for event in (run[0], run[-1])])
    log.runs(tmp_path)
    read: list[str] = []
    unpacked = PartPacker.part

    def part(packer: PartPacker, data: bytes) -> RunPart:
        found = unpacked(packer, data)
        read.append(found.run_id)
        return found

    monkeypatch.setattr(PartPacker, "part", part)
    found = conversation_page(tmp_path, log.Filter.parse(**where), limit=10)
    assert [each.conversation_id for each in found.conversations] == [f"c{number}" for number in range(199, 189, -1)]
    assert (found.total, len(read)) == (200, 20)
