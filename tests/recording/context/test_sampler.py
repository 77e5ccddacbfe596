"""Head sampling: the same decisions as OpenTelemetry's SDK."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import sampling

from sidestream import ConfigurationError, InMemoryExporter, Sidecar
from sidestream.recording.sampling import head_sampler
from sidestream.recording.span_context import SpanRef, current_span
from tests.support.application_spans import Application, SpanExporter, agent_of, here

NAMES = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
]


def decision_of_sdk(name: str, share: float, trace_id: str, parent_sampled: bool | None) -> bool:
    sampler: Any = sampling._KNOWN_SAMPLERS[name]
    made = sampler if isinstance(sampler, sampling.Sampler) else sampler(share)
    parent = None
    if parent_sampled is not None:
        flags = trace.TraceFlags(parent_sampled)
        span = trace.NonRecordingSpan(trace.SpanContext(int(trace_id, 16), 1, False, trace_flags=flags))
        parent = trace.set_span_in_context(span)
    return made.should_sample(parent, int(trace_id, 16), "run").decision.is_sampled()


@given(
    name=st.sampled_from(NAMES),
    share=st.floats(0, 1),
    trace_id=st.integers(1, 2**128 - 1).map(lambda number: f"{number:032x}"),
    parent_sampled=st.sampled_from([None, True, False]),
)
def test_it_agrees_with_the_sdk(name: str, share: float, trace_id: str, parent_sampled: bool | None) -> None:
    ours = head_sampler({"OTEL_TRACES_SAMPLER": name.upper(), "OTEL_TRACES_SAMPLER_ARG": f" {share!r}"})
    assert ours(trace_id, parent_sampled) is decision_of_sdk(name, share, trace_id, parent_sampled)


@pytest.mark.parametrize("environment", [{}, {"OTEL_TRACES_SAMPLER": " ", "OTEL_TRACES_SAMPLER_ARG": ""}])
def test_unless_told_it_keeps_all_but_what_the_parent_lets_go(environment: dict[str, str]) -> None:
    sampler = head_sampler(environment)
    assert [sampler("f" * 32, parent) for parent in (None, True, False)] == [True, True, False]


def test_a_share_that_is_not_given_is_all() -> None:
    assert head_sampler({"OTEL_TRACES_SAMPLER": "traceidratio"})("f" * 32, None)


@pytest.mark.parametrize(
    ("name", "argument", "said"),
    [
        ("sometimes", "", "OTEL_TRACES_SAMPLER='sometimes': choose always_on, always_off, traceidratio, parentbased_"),
        ("parentbased_", "", "choose"),
        ("traceidratio", "10%", "OTEL_TRACES_SAMPLER_ARG='10%': must be a share from 0 to 1, such as 0.1"),
        ("traceidratio", "1.5", "must be a share"),
        ("parentbased_traceidratio", "nan", "must be a share"),
    ],
)
def test_what_cannot_work_is_refused_where_the_sidecar_is_made(
    name: str, argument: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    with pytest.raises(ConfigurationError, match=said.replace("(", r"\(")):
        Sidecar(SpanExporter())
    Sidecar(InMemoryExporter()).close()  # no sampler is used


@pytest.mark.parametrize(("sampler", "sampled"), [("always_off", False), ("always_on", True)])
def test_spans_made_in_a_tool_carry_the_decision(
    sampler: str, sampled: bool, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    seen: list[SpanRef | None] = []

    def look() -> None:
        with application.tracer.start_as_current_span("query"):
            seen.append(current_span())

    exporter = SpanExporter()
    with Sidecar(exporter) as sidecar:
        asyncio.run(sidecar.observe(agent_of(look)).run("look"))
    (start,) = exporter.of("agent_start")
    assert start.data.sampled is sampled
    assert [span.sampled for span in seen if span] == [sampled]
    assert len(application.spans) == sampled


def test_a_trace_that_the_caller_lets_go_is_let_go(log: SpanExporter) -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=True))

    async def main() -> None:
        with trace.use_span(span):
            await log.sidecar.observe(agent_of()).run("hello")
            assert here() == f"{0xDEF:016x}"

    asyncio.run(main())
    start = log.one("agent_start")
    assert (start.data.trace_id, start.data.parent_span_id) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert start.data.sampled is False


def test_nobody_decides_where_no_exporter_asks() -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        asyncio.run(sidecar.observe(agent_of()).run("hello"))
    (start,) = memory.of("agent_start")
    assert start.data.sampled is None
