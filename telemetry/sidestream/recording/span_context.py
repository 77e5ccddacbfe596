"""The OpenTelemetry context: the span that a run begins in, and the spans of ours that others begin inside of.

Spans are built from events, later and elsewhere. What stands in the context meanwhile is their ids alone, in a span
that records nothing. No token is kept: what is torn down elsewhere than it was set up could not be undone with one.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from sidestream.diagnostics import warn_once
from sidestream.events.ids import span_id_of

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from .run_span import RunSpan


class SpanRef(NamedTuple):
    """A span, by its ids in hex."""

    trace_id: str
    span_id: str
    sampled: bool | None = None
    """Whether its trace is kept; None where nobody has decided."""


class OwnSpan:
    """A span of a run that is observed here: like a `SpanRef`, whose id is worked out when it is asked for."""

    __slots__ = ("_number", "_run_id", "sampled", "trace_id")

    def __init__(self, trace_id: str, run_id: str, number: int, sampled: bool | None) -> None:
        self.trace_id = trace_id
        self._run_id = run_id
        self._number = number
        self.sampled = sampled

    @property
    def span_id(self) -> str:
        """The id, which follows from the run and the number."""
        return span_id_of(self._run_id, self._number)


@cache
def _api() -> tuple[ModuleType, ModuleType]:
    """OpenTelemetry's modules `context` and `trace`: an import statement on the caller's path costs microseconds."""
    from opentelemetry import context, trace

    return context, trace


@cache
def _run_span() -> type[RunSpan]:
    from .run_span import RunSpan

    return RunSpan


def current_span_context() -> SpanContext | None:
    """The span that the current code is inside of, as OpenTelemetry has it."""
    if "opentelemetry.trace" not in sys.modules:
        return None  # then there is none
    _, trace = _api()
    context: SpanContext = trace.get_current_span().get_span_context()
    return context


def current_span() -> SpanRef | None:
    """The span that the current code is inside of."""
    return span_ref(current_span_context())


def span_of_environment() -> SpanRef | None:
    """The span that `TRACEPARENT` names: that of the program which started this one.

    (https://opentelemetry.io/docs/specs/otel/context/env-carriers/)
    """
    text = os.environ.get("TRACEPARENT", "").strip()
    if not text:
        return None
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({"traceparent": text})
    span = span_ref(get_current_span(context).get_span_context())
    if span is None:
        warn_once("TRACEPARENT is malformed, it is ignored", form="00-<32 hex>-<16 hex>-<2 hex>")
    return span


def span_ref(span: SpanContext | None) -> SpanRef | None:
    """The ids of `span`; None where it is none."""
    if span is None or not span.is_valid:
        return None
    return SpanRef(f"{span.trace_id:032x}", f"{span.span_id:016x}", span.trace_flags.sampled)


def is_recording(tracer: Any) -> bool:
    """Whether spans of `tracer` (pydantic-ai's, for a run) go anywhere."""
    _, trace = _api()
    if isinstance(tracer, trace.ProxyTracer):  # asks the global provider, if there is one by now
        return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    return tracer is not None and not isinstance(tracer, trace.NoOpTracer)


class ActiveSpan:
    """Active span: makes `span` the current one until `leave`. Everything else in the context stays."""

    __slots__ = ("_after", "_before", "_span")

    def __init__(self, span: SpanRef | OwnSpan) -> None:
        context, trace = _api()
        self._before = before = context.get_current()
        self._span = _run_span()(span, before)
        self._after = trace.set_span_in_context(self._span, before)
        context.attach(self._after)

    def leave(self) -> None:
        """Restore the previous span. No-op in any other context, and when called again."""
        context, trace = _api()
        now = context.get_current()
        if now is self._after:
            context.attach(self._before)
        elif trace.get_current_span(now) is self._span:  # with something added, and left there
            context.attach(trace.set_span_in_context(trace.get_current_span(self._before), now))
