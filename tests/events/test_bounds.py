"""Lower bounds: figures of usage and cost that are less than the true amount."""

from __future__ import annotations

from typing import Any

import pytest

from sidestream.events import AgentEnd, Attempt, LLMEnd, Usage, is_lower_bound, is_unmeasured, unpriced_requests

pytestmark = pytest.mark.scenario_31


def request(**facts: Any) -> LLMEnd:
    facts = {"request": 1, "outcome": "ok", "duration_seconds": 1.0, "usage_source": "provider", **facts}
    return LLMEnd(**facts)


def run(**facts: Any) -> AgentEnd:
    return AgentEnd(outcome="completed", success=True, duration_seconds=1.0, **facts)


USED = Usage(input_tokens=10, output_tokens=5)


@pytest.mark.parametrize(
    ("end", "usage", "cost"),
    [
        pytest.param(request(usage=USED, cost_usd=1.0), False, False, id="whole"),
        pytest.param(request(usage=USED, cost_usd=1.0, usage_source="partial"), True, True, id="cut off"),
        pytest.param(
            request(usage=USED, cost_usd=1.0, failed_attempts=[Attempt(model="m", outcome="error", usage=USED)]),
            False,
            True,
            id="an attempt before it has no price",
        ),
        pytest.param(run(usage=USED, cost_usd=1.0), False, False, id="run, whole"),
        pytest.param(run(usage=USED, cost_usd=1.0, partial_requests=1), True, True, id="run, cut off"),
        pytest.param(run(usage=USED, cost_usd=1.0, unmeasured_requests=1), True, True, id="run, not measured"),
        pytest.param(run(usage=USED, cost_usd=1.0, unpriced_requests=1), False, True, id="run, not priced"),
        pytest.param(run(usage=USED, cost_usd=1.0, incomplete_sub_agents=1), False, False, id="run, its own figures"),
    ],
)
def test_a_figure_is_a_lower_bound(end: LLMEnd | AgentEnd, usage: bool, cost: bool) -> None:
    assert (is_lower_bound(end, "usage"), is_lower_bound(end, "cost")) == (usage, cost)


def test_figures_with_sub_agents_are_bounds_where_one_of_theirs_is() -> None:
    end = run(usage=USED, cost_usd=1.0, incomplete_sub_agents=1)
    assert is_lower_bound(end, "usage", with_children=True)
    assert is_lower_bound(end, "cost", with_children=True)


def test_requests_without_a_price_are_counted_with_their_attempts() -> None:
    attempts = [Attempt(model="m", outcome="error", usage=USED), Attempt(model="n", outcome="error")]
    assert unpriced_requests(request(usage=USED, unpriced=True, failed_attempts=attempts)) == 2


@pytest.mark.parametrize(
    ("end", "unmeasured"),
    [
        (request(usage_source="none"), True),
        (request(usage_source="none", outcome="interrupted", chunks=3), True),
        (request(usage_source="none", outcome="error"), False),
        (request(usage_source="none", outcome="skipped"), False),
        (request(usage=USED), False),
    ],
)
def test_an_answer_of_which_nobody_told_the_usage_is_not_measured(end: LLMEnd, unmeasured: bool) -> None:
    """A request without an answer has no known usage."""
    assert is_unmeasured(end) == unmeasured
