"""Lower bounds in run summaries: from `agent_end`, or without an end from the finished requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidestream.events import AgentEnd, AgentStart, LLMEnd, LLMStart, Payload, Usage
from sidestream.log import load_run, runs, statistics
from tests.support.log_builder import sequence, write

USED = Usage(input_tokens=50, output_tokens=2)


def log_of(folder: Path, *payloads: Payload) -> str:
    return str(write(folder / "log.jsonl", sequence([AgentStart(root_run_id="r"), *payloads], "r")))


def request(**facts: Any) -> LLMEnd:
    usual: dict[str, Any] = {"outcome": "ok", "duration_seconds": 0.1, "usage": USED, "usage_source": "provider"}
    return LLMEnd(request=1, **usual | {"model": "m", "cost_usd": 0.01} | facts)


def end(**facts: Any) -> AgentEnd:
    return AgentEnd(outcome="completed", success=True, duration_seconds=1.0, usage=USED, cost_usd=0.01, **facts)


@pytest.mark.parametrize(
    ("counts", "usage", "cost"),
    [
        ({}, False, False),
        ({"partial_requests": 1}, True, True),
        ({"unmeasured_requests": 1}, True, True),
        ({"unpriced_requests": 1}, False, True),
    ],
)
def test_a_run_and_its_statistics_are_bounds_as_its_end_says(
    tmp_path: Path, counts: dict[str, int], usage: bool, cost: bool
) -> None:
    log = log_of(tmp_path, request(), end(**counts))
    for bounded in (runs(log)[0], statistics(log).total):
        assert bounded.is_lower_bound("usage") is usage
        assert bounded.is_lower_bound("cost") is cost


def test_incomplete_sub_agents_make_a_bound_of_what_they_are_part_of_alone(tmp_path: Path) -> None:
    (run,) = runs(log_of(tmp_path, end(incomplete_sub_agents=1)))
    assert not run.is_lower_bound("cost")
    assert run.is_lower_bound("cost", with_children=True)


def test_a_run_without_an_end_has_no_more_than_lower_bounds(tmp_path: Path) -> None:
    log = log_of(tmp_path, request(), LLMStart(request=2, model="m", streaming=True))
    assert runs(log)[0].is_lower_bound("usage")
    assert statistics(log).total.is_lower_bound("cost")


def test_a_step_and_its_model_are_bounds_as_the_request_says(tmp_path: Path) -> None:
    log = log_of(tmp_path, request(usage_source="partial", outcome="error"), end(partial_requests=1))
    (step,) = [step for step in load_run(log, "r").steps if step.kind == "request"]
    assert step.usage_is_lower_bound
    assert step.cost_is_lower_bound
    assert statistics(log).by_model[0].is_lower_bound("usage")


def test_a_model_that_nobody_announced_has_the_name_that_its_answer_gives(tmp_path: Path) -> None:
    start = LLMStart(request=1, model="unknown", streaming=True)
    log = log_of(tmp_path, start, request(model="unknown", response_model="gpt-5-mini"), end())
    (run,) = runs(log)
    assert (run.model, run.models) == ("gpt-5-mini", ["gpt-5-mini"])
    assert statistics(log).by_model[0].name == "gpt-5-mini"
    assert load_run(log, "r").steps[0].name == "gpt-5-mini"
