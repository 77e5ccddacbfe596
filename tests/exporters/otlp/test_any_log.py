"""Arbitrary logs, in any order, give deterministic spans, and leave no state behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sidestream.events import (
    AgentEnd,
    AgentStart,
    Custom,
    Error,
    LLMChunk,
    LLMEnd,
    LLMStart,
    Payload,
    Retry,
    StreamEvent,
    ToolEnd,
    ToolStart,
    Usage,
)
from sidestream.events.ids import span_id_of
from sidestream.recording.content import FULL
from sidestream.recording.sampling import always
from sidestream_exporters.otlp import runs, spans
from sidestream_exporters.otlp.readable import SpanBatch, make_resource, requests_of, scope
from sidestream_exporters.otlp.runs import Span
from sidestream_exporters.otlp.semantic_conventions import GEN_AI
from sidestream_exporters.otlp.spans import Builder
from sidestream_exporters.otlp.tail_sampler import TailSampler
from tests.support.run_events import event_log

RUNS = ["run-a", "run-b", "run-c"]
TEXT = st.text(max_size=5) | st.sampled_from(["x", "\ud800"])
MAYBE_TEXT = st.none() | TEXT
SECONDS = st.floats(allow_nan=False) | st.sampled_from([0.0, 0.25, 1.0])
NUMBER = st.integers(1, 3)
COUNT = st.none() | st.integers()
USAGE = st.none() | st.builds(Usage, input_tokens=COUNT, output_tokens=COUNT, reasoning_tokens=COUNT)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=2))

PAYLOADS: st.SearchStrategy[Payload] = st.one_of(
    st.builds(
        AgentStart,
        root_run_id=st.sampled_from(RUNS),
        parent_run_id=st.none() | st.sampled_from(RUNS),
        parent_tool_call_id=st.none() | st.sampled_from(["1", "2"]),
        trace_id=st.none() | TEXT | st.just("ab" * 16),
        parent_span_id=st.none() | TEXT | st.just("cd" * 8),
        prompt=JSON,
        tags=st.none() | st.dictionaries(TEXT, TEXT, max_size=2),
        sampled=st.none() | st.booleans(),
        instrumented=st.none() | st.booleans(),
    ),
    st.builds(
        LLMStart,
        request=NUMBER,
        model=TEXT,
        streaming=st.booleans(),
        instructions=JSON,
        settings=st.none() | st.dictionaries(TEXT, JSON, max_size=2),
    ),
    st.builds(LLMChunk, request=NUMBER, part=NUMBER, kind=st.sampled_from(["text", "tool_call", "other"]), text=JSON),
    st.builds(
        LLMEnd,
        request=NUMBER,
        outcome=st.sampled_from(["ok", "error", "cancelled", "interrupted", "skipped", "retry"]),
        duration_seconds=SECONDS,
        usage=USAGE,
        usage_source=st.just("provider"),
        cost_usd=st.none() | st.floats(),
        error=JSON,
        exception_type=MAYBE_TEXT,
    ),
    st.builds(ToolStart, tool_name=TEXT, tool_call_id=st.none() | st.sampled_from(["1", "2"]), args=JSON),
    st.builds(
        ToolEnd,
        tool_name=TEXT,
        tool_call_id=st.none() | st.sampled_from(["1", "2"]),
        outcome=st.sampled_from(["ok", "retry", "failed", "unknown", "cancelled"]),
        duration_seconds=st.none() | SECONDS,
        result=JSON,
        exception_type=MAYBE_TEXT,
    ),
    st.builds(Retry, cause=TEXT, message=JSON, tool_call_id=MAYBE_TEXT),
    st.builds(Error, error=JSON, exception_type=MAYBE_TEXT, where=st.sampled_from(["model", "tool", "output", "run"])),
    st.builds(Custom, name=TEXT, payload=JSON),
    st.builds(
        AgentEnd,
        outcome=st.sampled_from(["completed", "error", "cancelled", "timed_out", "abandoned"]),
        success=st.booleans(),
        duration_seconds=SECONDS,
        usage=USAGE,
    ),
)


@st.composite
def logs(draw: st.DrawFn) -> list[StreamEvent]:
    """Strategy for events of up to three runs in any order, with gaps."""
    taken = draw(st.lists(st.tuples(st.sampled_from(RUNS), st.floats(0, 1e4), PAYLOADS), max_size=25))
    runs: dict[str, list[tuple[float, Payload]]] = {run_id: [] for run_id in RUNS}
    for run_id, offset, data in taken:
        runs[run_id].append((offset, data))
    told = {run_id: iter(event_log(run_id, *items)) for run_id, items in runs.items()}
    events = [next(told[run_id]) for run_id, _, _ in taken]
    return [event for event in events if draw(st.integers(0, 9))]


def build(events: Sequence[StreamEvent]) -> list[Span]:
    builder = Builder(GEN_AI, always, instrumented="run", content=FULL, placement="both")
    sampler = TailSampler(True, 1.0, None)
    spans: list[Span] = []
    for event in events:
        run, span = builder.take(event)
        if run is not None:
            spans += sampler.take(run, span, event.data if isinstance(event.data, AgentEnd) else None)
    assert len(builder._runs) <= len(RUNS)
    assert sampler.held == sum(len(held.spans) for held in sampler._held.values())
    return spans


RESOURCE, SCOPE = make_resource(), scope()


def encoded(spans: Sequence[Span]) -> list[tuple[bytes, int]]:
    """Encoded export requests, each with its number of spans."""
    batches = [SpanBatch(part, RESOURCE, SCOPE, lambda: None) for part in requests_of(spans)]
    return [(encode_spans(batch).SerializeToString(deterministic=True), len(batch)) for batch in batches]


@settings(max_examples=150, deadline=None)
@given(logs())
def test_every_log_makes_spans_that_can_be_sent_and_the_same_each_time(events: list[StreamEvent]) -> None:
    spans = build(events)
    bodies = encoded(spans)
    assert sum(count for _, count in bodies) == len(spans)
    assert encoded(build(events)) == bodies
    sent = [
        span.span_id
        for body, _ in bodies
        for span in ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans
    ]
    assert sent == [span.span_id.to_bytes(8, "big") for span in spans]
    for span in spans:
        assert 0 <= span.start <= span.end < 2**63
        assert span.span_id == int(span_id_of(span.run_id, span.seq), 16)


@settings(max_examples=100, deadline=None)
@given(logs(), st.data())
def test_how_the_log_is_cut_into_batches_changes_nothing(events: list[StreamEvent], data: st.DataObject) -> None:
    """A prefix of the log gives a prefix of the spans: later events change no earlier span."""
    cut = data.draw(st.integers(0, len(events)))
    assert build(events)[: len(build(events[:cut]))] == build(events[:cut])


def test_runs_that_never_end_are_forgotten(monkeypatch: Any) -> None:
    monkeypatch.setattr(spans, "MAX_RUNS", 50)
    builder = Builder(GEN_AI, always, instrumented="run", content=FULL, placement="span")
    for number in range(1_000):
        builder.take(event_log(f"run-{number}", AgentStart(root_run_id=f"run-{number}", prompt="x" * 100))[0])
    assert len(builder._runs) == 50
    assert builder.forgotten == 950


def test_requests_and_tools_that_never_end_are_forgotten(monkeypatch: Any) -> None:
    for module in (runs, spans):
        monkeypatch.setattr(module, "MAX_OPEN", 50)
    builder = Builder(GEN_AI, always, instrumented="run", content=FULL, placement="span")
    for number in range(1_000):
        builder.take(event_log("run-1", LLMStart(request=number, model="m", streaming=False))[0])
        builder.take(event_log("run-1", ToolStart(tool_name=f"tool-{number}"))[0])
    run = builder._runs["run-1"]
    assert len(run.requests) == len(run.tools) == run.open_tools == 50
