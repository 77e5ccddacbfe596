"""OpenTelemetry context: the enclosing span of a run, and Sidestream's own spans for nested code.

Spans are built later, from events. In the meantime the context holds a non-recording span with their ids. Context
tokens are not kept, because they are invalid if a run ends in another context.
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
    """Span ids in hex."""

    trace_id: str
    span_id: str
    sampled: bool | None = None
    """Whether the trace is sampled; None if undecided."""


class OwnSpan:
    """Span of an observed run: like `SpanRef`, with an id derived on access."""

    __slots__ = ("_number", "_run_id", "sampled", "trace_id")

    def __init__(self, trace_id: str, run_id: str, number: int, sampled: bool | None) -> None:
        self.trace_id = trace_id
        self._run_id = run_id
        self._number = number
        self.sampled = sampled

    @property
    def span_id(self) -> str:
        """Span id in hex, derived from the run and the number."""
        return span_id_of(self._run_id, self._number)


@cache
def _api() -> tuple[ModuleType, ModuleType]:
    """Modules `context` and `trace` of OpenTelemetry, cached because an import statement takes microseconds."""
    from opentelemetry import context, trace

    return context, trace


@cache
def _run_span() -> type[RunSpan]:
    from .run_span import RunSpan

    return RunSpan


def current_span_context() -> SpanContext | None:
    """Current OpenTelemetry span context; None if OpenTelemetry is not imported."""
    if "opentelemetry.trace" not in sys.modules:
        return None  # no span without the library
    _, trace = _api()
    context: SpanContext = trace.get_current_span().get_span_context()
    return context


def current_span() -> SpanRef | None:
    """Ids of the current OpenTelemetry span; None outside of a span."""
    return span_ref(current_span_context())


def span_of_environment() -> SpanRef | None:
    """Span of the parent process from `TRACEPARENT`; None if unset or malformed.

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
    """Ids of `span`; None if `span` is missing or invalid."""
    if span is None or not span.is_valid:
        return None
    return SpanRef(f"{span.trace_id:032x}", f"{span.span_id:016x}", span.trace_flags.sampled)


def is_recording(tracer: Any) -> bool:
    """Whether spans of `tracer` (pydantic-ai's tracer of a run) are recorded."""
    _, trace = _api()
    if isinstance(tracer, trace.ProxyTracer):  # delegates to the global provider once there is one
        return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    return tracer is not None and not isinstance(tracer, trace.NoOpTracer)


class ActiveSpan:
    """Current span of the context until `leave()`. Other context values stay unchanged."""

    __slots__ = ("_after", "_before", "_span")

    def __init__(self, span: SpanRef | OwnSpan) -> None:
        context, trace = _api()
        self._before = before = context.get_current()
        self._span = _run_span()(span, before)
        self._after = trace.set_span_in_context(self._span, before)
        context.attach(self._after)

    def leave(self) -> None:
        """Restore the previous span. No-op in any other context, and on further calls."""
        context, trace = _api()
        now = context.get_current()
        if now is self._after:
            context.attach(self._before)
        elif trace.get_current_span(now) is self._span:  # keep values that were added to the context meanwhile
            context.attach(trace.set_span_in_context(trace.get_current_span(self._before), now))
