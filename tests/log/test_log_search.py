"""Search in all content of people and models, across the pieces of a streamed answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidestream import ConfigurationError, log
from sidestream.events import AgentStart, Attempt, Custom, LLMEnd, LLMStart, ToolEnd
from sidestream.log import reader
from tests.support.log_builder import lines, run_events, sequence, write
from tests.support.run_events import chunk


def found(path: Path, pattern: str, **options: object) -> list[tuple[str, str, int]]:
    """Event type, field and line of each hit."""
    return [(hit.event_type, hit.where, hit.line) for hit in log.search(path, pattern, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prompt of", [("agent_start", "prompt", 1)]),
        ("be brief", [("llm_start", "instructions", 2)]),
        ("4711", [("llm_chunk", "text", 3), ("tool_start", "args.order", 6)]),
        ("not found", [("error", "error", 7), ("tool_end", "error", 8)]),
        ("try again", [("retry", "message", 9)]),
        ("It left on Mon", [("llm_chunk", "text", 11), ("final_result", "output", 15)]),
        ("nowhere", []),
        ("gpt-4o", []),
    ],
)
def test_in_every_field_of_content_and_in_no_other(tmp_path: Path, text: str, expected: list[object]) -> None:
    write(tmp_path / "a.jsonl", run_events("one"))
    assert found(tmp_path, text) == expected


@pytest.mark.parametrize("pattern", ["Monday", "on Monday.", "left on Monday"])
def test_across_the_chunks_of_an_answer(tmp_path: Path, pattern: str) -> None:
    write(tmp_path / "a.jsonl", run_events("one")[:13])
    assert found(tmp_path, pattern) == [("llm_chunk", "text", 11)]


def test_across_files(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", run_events("one")[:11])
    write(tmp_path / "b.jsonl", run_events("one")[11:])
    assert ("llm_chunk", "text", 11) in found(tmp_path, "Monday")


def test_not_across_parts_or_requests_or_runs(tmp_path: Path) -> None:
    start = AgentStart(root_run_id="one")
    payloads = [start, chunk("on", part=0), chunk("Mon", part=1), chunk("day", request=2)]
    mixed = [event for pair in zip(sequence(payloads, "one"), sequence(payloads, "two"), strict=True) for event in pair]
    write(tmp_path / "a.jsonl", mixed)
    assert found(tmp_path, "onMon") == found(tmp_path, "Monday") == found(tmp_path, "onon") == []
    assert len(found(tmp_path, "Mon")) == 2


def test_an_answer_without_an_end_is_searched_too(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", sequence([AgentStart(root_run_id="one"), chunk("he", "llo")], "one"))
    assert found(tmp_path, "hello") == [("llm_chunk", "text", 2)]


def test_every_place_in_an_answer(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", sequence([AgentStart(root_run_id="one"), chunk("a-a"), chunk("-a-")], "one"))
    assert [hit.line for hit in log.search(tmp_path, "a")] == [2, 2, 3]


def test_by_regular_expression_and_whatever_the_case(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", run_events("one"))
    assert found(tmp_path, r"^it left .*\.$", regex=True, ignore_case=True) == [
        ("llm_chunk", "text", 11),
        ("final_result", "output", 15),
    ]
    assert found(tmp_path, r"^it", regex=True) == []
    assert found(tmp_path, ".*") == []


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        *(("risk", text) for text in ("RISK", "Risk", "r\u0130sk", "r\u0131sk", "ri\u017fk", "RIS\u212a")),
        *((text, "Risk") for text in ("r\u0130sk", "r\u0131sk", "ri\u017fk", "RIS\u212a")),
        ("GRÜSSE", "grüsse"),
        ("a/B", "A/b"),
    ],
)
def test_whatever_the_case_in_whatever_way_json_writes_it(
    tmp_path: Path, pattern: str, text: str, ascii_only: bool
) -> None:
    events = sequence([AgentStart(root_run_id="one", prompt=f"the {text} is"), chunk("none")], "one")
    written = [json.dumps(json.loads(line), ensure_ascii=ascii_only) for line in lines(events)]
    (tmp_path / "a.jsonl").write_text("\n".join(written) + "\n", "utf-8")
    assert found(tmp_path, pattern, ignore_case=True) == [("agent_start", "prompt", 1)]
    assert found(tmp_path, pattern.swapcase() + "y", ignore_case=True) == []


def test_of_some_runs(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [*run_events("one", agent="a"), *run_events("two", agent="b")])
    hits = list(log.search(tmp_path, "be brief", where=log.Filter(agents=("b",))))
    assert [(hit.run_id, hit.agent_name, hit.line) for hit in hits] == [("two", "b", 18)]


def test_in_values_of_any_shape(tmp_path: Path) -> None:
    payloads = [
        AgentStart(root_run_id="one", prompt=["look", {"what": "needle"}]),
        Custom(name="mine", payload={"needle": [1, 2.5, None, True, {"deep": ["x", "a needle"]}]}),
        LLMStart(request=1, model="m", streaming=False),
        LLMEnd(
            request=1,
            outcome="ok",
            duration_seconds=1.0,
            usage_source="none",
            failed_attempts=[Attempt(model="n", outcome="error", error="needle")],
        ),
        ToolEnd(tool_name="t", outcome="ok", result=4711),
    ]
    write(tmp_path / "a.jsonl", sequence(payloads, "one"))
    assert found(tmp_path, "needle") == [
        ("agent_start", "prompt[1].what", 1),
        ("custom", "payload.needle", 2),
        ("custom", "payload.needle[4].deep[1]", 2),
        ("llm_end", "failed_attempts[0].error", 4),
    ]
    assert found(tmp_path, "471") == [("tool_end", "result", 5)]


@pytest.mark.parametrize("text", ['"quoted"', "back\\slash", "zwei\nZeilen", "Grüße", "🚲"])
def test_text_that_json_writes_in_another_way(tmp_path: Path, text: str) -> None:
    write(tmp_path / "a.jsonl", sequence([AgentStart(root_run_id="one", prompt=f"a {text} b")], "one"))
    assert found(tmp_path, text) == [("agent_start", "prompt", 1)]


def test_the_excerpt_shows_what_was_found_and_some_of_what_is_around_it(tmp_path: Path) -> None:
    prompt = "x" * 500 + "needle" + "y" * 500
    write(tmp_path / "a.jsonl", sequence([AgentStart(root_run_id="one", prompt=prompt)], "one"))
    (hit,) = log.search(tmp_path, "needle")
    assert hit.excerpt == "…" + "x" * 60 + "needle" + "y" * 60 + "…"
    assert hit.excerpt[hit.start : hit.end] == "needle"


def test_damaged_lines_are_told_and_the_rest_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "BLOCK", 1)
    text = lines(run_events("one"))
    (tmp_path / "a.jsonl").write_bytes(text[0] + b"damaged\n" + b"".join(text[1:]))
    problems: list[log.Problem] = []
    assert found(tmp_path, "be brief", on_problem=problems.append) == [("llm_start", "instructions", 3)]
    assert [problem.line for problem in problems] == [2]


@pytest.mark.parametrize(("pattern", "regex"), [("", False), ("(", True), ("", True)])
def test_an_invalid_pattern_is_an_error(tmp_path: Path, pattern: str, regex: bool) -> None:
    with pytest.raises(ConfigurationError, match="search: "):
        log.search(tmp_path, pattern, regex=regex)


def test_the_name_of_a_tool_where_it_is_called(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", run_events("one"))
    assert found(tmp_path, "look_up") == [("tool_start", "tool_name", 6)]


class TestNewestFirst:
    def test_the_run_that_began_last_comes_first(self, tmp_path: Path) -> None:
        """Hits are ordered by run, the latest first, whichever files they are in and however the runs' lines mix."""
        old, new = run_events("old"), run_events("new", minutes=0.001)
        write(tmp_path / "a.jsonl", [event for pair in zip(old[:11], new[:11], strict=True) for event in pair])
        write(tmp_path / "b.jsonl", [event for pair in zip(new[11:], old[11:], strict=True) for event in pair])
        hits = list(log.search(tmp_path, "Monday", newest_first=True))
        assert [(hit.run_id, hit.where) for hit in hits] == [
            *(("new", "text"), ("new", "output")),
            *(("old", "text"), ("old", "output")),
        ]

    def test_instructions_once(self, tmp_path: Path) -> None:
        """Identical instructions in each run would hide all other hits."""
        write(tmp_path / "a.jsonl", [*run_events("one"), *run_events("two", minutes=1)])
        hits = list(log.search(tmp_path, "brief", newest_first=True))
        assert [(hit.run_id, hit.where) for hit in hits] == [("two", "instructions")]

    def test_finds_what_is_found_in_the_order_of_the_log(self, tmp_path: Path) -> None:
        """A filter, and more runs than one batch."""
        events = [
            event
            for number in range(120)
            for event in run_events(f"run-{number:03}", minutes=number, ended=bool(number % 2))
        ]
        write(tmp_path / "a.jsonl", events)
        for where in (None, log.Filter(outcomes=("completed",))):
            expected = sorted((hit.run_id, hit.seq, hit.where) for hit in log.search(tmp_path, "on", where=where))
            hits = list(log.search(tmp_path, "on", newest_first=True, where=where))
            assert sorted((hit.run_id, hit.seq, hit.where) for hit in hits) == expected
            assert [hit.run_id for hit in hits] == sorted((hit.run_id for hit in hits), reverse=True)

    def test_stops_in_time(self, tmp_path: Path) -> None:
        write(tmp_path / "a.jsonl", run_events("one"))
        assert list(log.search(tmp_path, "Monday", newest_first=True, deadline=0.0)) == []
