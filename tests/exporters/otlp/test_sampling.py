"""Sampling: head-sampled traces are sent, and unsampled ones by the tail rules."""

from __future__ import annotations

from typing import Any

import pytest

from sidestream.events import AgentEnd, StreamEvent
from sidestream_exporters import OTLPExporter
from sidestream_exporters.otlp import tail_sampler
from sidestream_exporters.otlp.tail_sampler import TailSampler
from tests.support.otlp_receiver import attributes, http_receiver
from tests.support.run_events import answer, ask, end, event_log, start


def run_of(run_id: str, *, root: str | None = None, sampled: bool | None = False, **facts: Any) -> list[StreamEvent]:
    links = {"root_run_id": root, "parent_run_id": root} if root else {}
    return event_log(run_id, start(run_id, sampled=sampled, **links), ask(), answer(), end(**facts))


def sent(*events: StreamEvent, **options: Any) -> list[tuple[str, str]]:
    """Run and sampling reason of each received span."""
    with http_receiver() as received:
        exporter = OTLPExporter(received.url, **options)
        assert exporter.export(list(events)) is None
        exporter.close()
        told = [attributes(span) for span in received.spans]
    return [(each["sidestream.run_id"], each["sidestream.sampling"]) for each in told]


def test_a_sampled_trace_leaves_as_it_goes() -> None:
    events = run_of("run-1", sampled=True)
    assert sent(*events[:3]) == [("run-1", "head")]


def test_an_unsampled_trace_that_went_well_is_let_go() -> None:
    with http_receiver() as received:
        exporter = OTLPExporter(received.url, keep_slower=60, keep_costlier=1)
        assert exporter.export(run_of("run-1", cost_usd=0.5)) is None
        assert exporter.spans_sampled_out == 2
        exporter.close()
        assert received.requests == []


FAILED = ["error", "cancelled", "timed_out", "abandoned"]


@pytest.mark.parametrize("outcome", FAILED)
def test_one_that_failed_is_kept_whole(outcome: str) -> None:
    events = run_of("run-1", outcome=outcome, success=False)
    assert sent(*events) == [("run-1", f"tail:{outcome}")] * 2


def test_slow_and_expensive_ones_are_kept_if_asked_for() -> None:
    slow, dear = run_of("run-1", duration_seconds=61.0), run_of("run-1", cost_usd=0.1, cost_usd_with_children=2.0)
    assert sent(*slow) == sent(*dear) == []
    assert sent(*slow, keep_slower=60) == [("run-1", "tail:slow")] * 2
    assert sent(*dear, keep_costlier=1) == [("run-1", "tail:expensive")] * 2


def test_failures_are_not_kept_if_they_are_not_wanted() -> None:
    assert sent(*run_of("run-1", outcome="error", success=False), keep_failed=False) == []


def test_a_sub_agent_that_failed_keeps_the_trace_and_all_wait_for_the_outermost_run() -> None:
    root, child = run_of("root"), run_of("child", root="root", outcome="error", success=False)
    events = [*root[:3], *child, root[3]]
    assert sent(*events[:-1]) == []
    assert [run for run, _ in sent(*events)] == ["root", "child", "child", "root"]
    assert {reason for _, reason in sent(*events)} == {"tail:error"}


def test_what_ends_after_the_outermost_run_follows_its_decision() -> None:
    root = run_of("root", outcome="cancelled", success=False)
    child = run_of("child", root="root")
    assert ("child", "tail:cancelled") in sent(*root, *child)
    assert sent(*run_of("root"), *child) == []


@pytest.mark.parametrize(("sampler", "kept"), [("always_on", 2), ("always_off", 0)])
def test_a_log_without_a_decision_is_decided_by_the_sampler(
    sampler: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    assert len(sent(*run_of("run-1", sampled=None))) == kept


class TestBounds:
    def test_of_spans(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tail_sampler, "MAX_SPANS", 100)
        self.hold(1_000, {})

    def test_of_content(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tail_sampler, "MAX_CONTENT", 100_000)
        self.hold(1_000, {"prompt": "x" * 1_000})

    def test_of_decisions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tail_sampler, "MAX_TRACES", 10)
        exporter = OTLPExporter()
        for number in range(100):
            exporter.export(run_of(f"run-{number}"))
        assert len(exporter._tail_sampler._decided) == 10

    def test_of_traces_that_have_no_span_yet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tail_sampler, "MAX_TRACES", 10)
        exporter = OTLPExporter()
        for number in range(100):
            assert exporter.export(run_of(f"run-{number}")[:1]) is None
        assert len(exporter._tail_sampler._held) == 10

    def hold(self, traces: int, facts: dict[str, Any]) -> None:
        """Traces whose root run never ends: the oldest are discarded, and counted."""
        exporter = OTLPExporter(content="full")
        for number in range(traces):
            events = event_log(f"run-{number}", start(f"run-{number}", sampled=False, **facts), ask(), answer())
            assert exporter.export(events) is None
        assert 0 < exporter.spans_held <= 100
        assert exporter.spans_held + exporter.spans_sampled_out == traces


def test_held_and_let_go_and_sent_are_all_there_are() -> None:
    sampler = TailSampler(True, None, None)
    exporter = OTLPExporter()
    out = made = 0
    for number in range(50):
        outcome: dict[str, Any] = {} if number % 3 else {"outcome": "error", "success": False}
        for event in run_of(f"run-{number}", **outcome)[: 4 - number % 2]:
            run, span = exporter._builder.take(event)
            assert run is not None
            made += span is not None
            out += len(sampler.take(run, span, event.data if isinstance(event.data, AgentEnd) else None))
            assert made == out + sampler.held + sampler.sampled_out
    assert out
    assert sampler.held
    assert sampler.sampled_out
