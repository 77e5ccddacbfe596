"""Statistics: counts, sums and quantiles, without double counting."""

from __future__ import annotations

import statistics as reference
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestream import log
from sidestream.events import AgentEnd, AgentStart, Attempt, LLMEnd, LLMStart, StreamEvent, Usage
from sidestream.log.runs.quantiles import quantiles
from tests.support.log_builder import QUICK, plain, run_events, sequence, write


@pytest.fixture
def found(tmp_path: Path) -> log.Statistics:
    events: list[StreamEvent] = [
        *run_events("one"),
        *run_events("two", minutes=30),
        *run_events("three", agent="billing", model="claude", minutes=90),
        *run_events("four", agent="billing", model="claude", minutes=91, ended=False)[:8],
    ]
    write(tmp_path / "a.jsonl", events)
    return log.statistics(tmp_path)


def test_of_all_runs(found: log.Statistics) -> None:
    total = found.total
    assert (total.count, total.outcomes) == (4, {"completed": 3, "lost": 1})
    assert (total.total_tokens, total.cost_usd, total.requests, total.tool_calls, total.retries) == (1400, 0.1, 7, 4, 3)
    assert total.usage == Usage(input_tokens=1050, output_tokens=350)


def test_by_agent_the_most_expensive_first(found: log.Statistics) -> None:
    assert [(group.name, group.count, group.cost_usd) for group in found.by_agent] == [
        ("support", 2, 0.06),
        ("billing", 2, 0.04),
    ]


def test_by_model(found: log.Statistics) -> None:
    assert [(group.name, group.count, group.outcomes, group.total_tokens) for group in found.by_model] == [
        ("gpt-4o", 4, {"ok": 4}, 800),
        ("claude", 3, {"ok": 3}, 600),
    ]
    times = found.by_model[0].duration
    assert times is not None
    assert (times.count, times.p50, times.max) == (4, 0.25, 0.3)


def test_by_tool(found: log.Statistics) -> None:
    (tool,) = found.by_tool
    assert (tool.name, tool.count, tool.outcomes) == ("look_up", 4, {"retry": 4})


def test_by_hour(found: log.Statistics) -> None:
    assert [(group.name, group.count) for group in found.by_hour] == [
        ("2026-11-20T09:00Z", 2),
        ("2026-11-20T10:00Z", 2),
    ]


def test_by_attempt(tmp_path: Path) -> None:
    """First and later attempts are separate groups; runs that are not attempts are in none."""
    events = [
        *run_events("one", attempt=1, attempt_of="one", ended=False),
        *run_events("two", attempt=2, attempt_of="one"),
        *run_events("three", attempt=1, attempt_of="three"),
        *run_events("four"),
    ]
    write(tmp_path / "a.jsonl", events)
    groups = log.statistics(tmp_path).by_attempt
    assert [(group.name, group.outcomes) for group in groups] == [
        ("1", {"completed": 1, "lost": 1}),
        ("2", {"completed": 1}),
    ]


def test_the_sums_of_every_table_agree(found: log.Statistics) -> None:
    """Cost and tokens of runs, agents, models and hours have the same sums."""
    for table in (found.by_agent, found.by_model, found.by_hour):
        assert sum(group.cost_usd or 0 for group in table) == pytest.approx(0.1)
        assert sum(group.total_tokens or 0 for group in table) == 1400


def test_failed_attempts_are_in_the_models_cost_as_in_the_runs(tmp_path: Path) -> None:
    attempt = Attempt(model="a", outcome="error", usage=Usage(input_tokens=10), cost_usd=0.5)
    unpriced = Attempt(model="b", outcome="error", usage=Usage(input_tokens=10))
    end = LLMEnd(
        request=1,
        outcome="ok",
        duration_seconds=1.0,
        model="m",
        usage_source="none",
        cost_usd=1.0,
        failed_attempts=[attempt, unpriced],
    )
    start = LLMStart(request=1, model="m", streaming=False)
    write(tmp_path / "a.jsonl", sequence([AgentStart(root_run_id="one"), start, end], "one"))
    found = log.statistics(tmp_path)
    assert (found.by_model[0].cost_usd, found.total.cost_usd) == (1.5, 1.5)
    assert (found.by_model[0].unpriced_requests, found.total.unpriced_requests) == (1, 1)


def test_unknown_values_are_absent(tmp_path: Path) -> None:
    end = AgentEnd(outcome="completed", success=True, duration_seconds=1.0)
    write(tmp_path / "a.jsonl", sequence([AgentStart(root_run_id="one"), end], "one"))
    total = plain(log.statistics(tmp_path))["total"]
    assert "cost_usd" not in total
    assert "usage" not in total


def test_an_empty_log_has_statistics(tmp_path: Path) -> None:
    found = log.statistics(tmp_path)
    assert (found.total.count, found.total.duration, found.by_agent) == (0, None, [])


@settings(QUICK)
@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=50))
def test_quantiles_are_those_of_the_standard_library(values: list[float]) -> None:
    found = quantiles(values)
    cuts = reference.quantiles(values, n=100, method="inclusive")
    assert found is not None
    assert [found.p50, found.p95, found.p99] == pytest.approx([cuts[49], cuts[94], cuts[98]])


def test_quantiles_leave_out_what_is_not_known() -> None:
    assert quantiles([None]) is None
    assert plain(quantiles([None, 2.0])) == {"count": 1, "mean": 2.0, "p50": 2.0, "p95": 2.0, "p99": 2.0, "max": 2.0}
