"""Selection of published metrics and buckets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidestream.errors import ConfigurationError
from sidestream.metrics.definitions import BY_NAME, METRICS
from sidestream.metrics.selection import ALWAYS, Selection
from sidestream.metrics.store import Exemplar, Origin, Point, Store

NAME = "gen_ai_client_operation_duration_seconds"


def chosen(*patterns: str) -> set[str]:
    return {metric.name for metric in Selection(patterns).metrics}


def test_everything_is_chosen_unless_said_otherwise() -> None:
    assert Selection().metrics == METRICS


def test_patterns_choose_and_leave_out() -> None:
    every = {metric.name for metric in METRICS}
    assert chosen("sidestream_cost_usd_total") == {"sidestream_cost_usd_total"} | ALWAYS
    assert chosen("-gen_ai_*") == {name for name in every if name.startswith("sidestream_")}
    assert chosen("sidestream_run*", "-sidestream_runs_*") == {"sidestream_run_requests"} | ALWAYS


def test_a_pattern_that_no_metric_has_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="sidestream_nothing"):
        Selection(["sidestream_nothing"])
    with pytest.raises(ConfigurationError, match="fine or coarse"):
        Selection(buckets="none")  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1_000), max_size=50))
def test_coarse_buckets_hold_what_the_fine_ones_did(values: list[float]) -> None:
    """The result equals direct counting into the coarse buckets."""
    coarse = Selection(buckets="coarse")
    metric = next(each for each in coarse.metrics if each.name == NAME)
    assert set(metric.buckets) < set(BY_NAME[NAME].buckets)
    assert metric.buckets[-1] == BY_NAME[NAME].buckets[-1]
    store = Store()
    labels = ("chat", "openai", "m", "m", "")
    for value in values:
        store.observe(NAME, labels, value)
    for point in coarse.of(store.snapshot())[NAME]:
        expected = [0] * (len(metric.buckets) + 1)
        for value in values:
            expected[next((i for i, bound in enumerate(metric.buckets) if value <= bound), len(metric.buckets))] += 1
        assert list(point.counts) == expected
        assert point.value == pytest.approx(sum(values))


def test_a_coarse_bucket_keeps_the_latest_exemplar() -> None:
    coarse = Selection(buckets="coarse")
    metric = next(each for each in coarse.metrics if each.name == NAME)
    fine = BY_NAME[NAME].buckets
    old, new = Exemplar(0.1, Origin("", "", "old", 1.0)), Exemplar(0.03, Origin("", "", "new", 2.0))
    assert not any(0.03 <= bound < 0.1 for bound in metric.buckets)
    point = Point(("chat", "", "m", "", ""), 0.13, (0, 0, 1, 0, 1, *[0] * (len(fine) - 4)), (new, old))
    assert coarse.of({NAME: [point]})[NAME][0].exemplars == (new,)
