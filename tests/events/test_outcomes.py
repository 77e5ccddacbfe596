"""Table of outcomes: contains every outcome of the contract."""

from __future__ import annotations

from typing import get_args

import pytest

from sidestream.events import OUTCOMES, RequestOutcome, RunOutcome, ToolOutcome, verdict_of

ALL = {*get_args(RunOutcome), *get_args(RequestOutcome), *get_args(ToolOutcome)}


def test_every_outcome_of_the_contract_has_a_verdict() -> None:
    assert set(OUTCOMES) == ALL | {"lost", "running"}


@pytest.mark.parametrize(
    ("verdict", "outcomes"),
    [
        ("ok", {"completed", "ok"}),
        ("caller", {"cancelled", "abandoned", "interrupted", "denied"}),
        ("fault", {"error", "timed_out", "lost", "failed"}),
    ],
)
def test_whose_doing_it_was(verdict: str, outcomes: set[str]) -> None:
    assert {name for name in OUTCOMES if verdict_of(name) == verdict} == outcomes


@pytest.mark.parametrize("outcome", [None, "", "of a later version"])
def test_an_outcome_that_is_not_known_is_no_fault(outcome: str | None) -> None:
    assert verdict_of(outcome) == "neutral"
