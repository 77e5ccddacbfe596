"""The OpenTelemetry context: the span that a run begins in, and the spans of ours that others begin inside of.

Spans are built from events, later and elsewhere. What stands in the context meanwhile is their ids alone, in a span
that records nothing. No token is kept: what is torn down elsewhere than it was set up could not be undone with one.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sidestream.diagnostics import warn_once

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext


@dataclass(frozen=True, slots=True)
class SpanRef:
    """A span, by its ids in hex."""

    trace_id: str
    span_id: str
    sampled: bool | None = None
    """Whether its trace is kept; None where nobody has decided."""


@cache
def _api() -> tuple[ModuleType, ModuleType]:
    """OpenTelemetry's modules `context` and `trace`: an import statement on the caller's path costs microseconds."""
    from opentelemetry import context, trace

    return context, trace


def current_span() -> SpanRef | None:
    """The span that the current code is inside of."""
    if "opentelemetry.trace" not in sys.modules:
        return None  # then there is none
    _, trace = _api()
    return _ref(trace.get_current_span().get_span_context())


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
    span = _ref(get_current_span(context).get_span_context())
    if span is None:
        warn_once("TRACEPARENT is malformed, it is ignored", form="00-<32 hex>-<16 hex>-<2 hex>")
    return span


def _ref(span: SpanContext) -> SpanRef | None:
    if not span.is_valid:
        return None
    return SpanRef(f"{span.trace_id:032x}", f"{span.span_id:016x}", span.trace_flags.sampled)


def is_recording(tracer: Any) -> bool:
    """Whether spans of `tracer` (pydantic-ai's, for a run) go anywhere."""
    _, trace = _api()
    if isinstance(tracer, trace.ProxyTracer):  # asks the global provider, if there is one by now
        return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    return tracer is not None and not isinstance(tracer, trace.NoOpTracer)


class ActiveSpan:
    """Has the current code be inside `span`, from now until `leave`. Everything else in the context stays."""

    __slots__ = ("_after", "_before", "_span")

    def __init__(self, span: SpanRef) -> None:
        context, trace = _api()
        self._before = context.get_current()
        trace_id = int(span.trace_id, 16)
        outer = trace.get_current_span(self._before).get_span_context()
        flags = trace.TraceFlags
        self._span = trace.NonRecordingSpan(
            trace.SpanContext(
                trace_id,
                int(span.span_id, 16),
                is_remote=False,
                trace_flags=flags(flags.SAMPLED if span.sampled else flags.DEFAULT),
                trace_state=outer.trace_state if outer.trace_id == trace_id else None,
            )
        )
        self._after = trace.set_span_in_context(self._span, self._before)
        context.attach(self._after)

    def leave(self) -> None:
        """Be where we were. Does nothing in a context that is not inside, and may be called more than once."""
        context, trace = _api()
        now = context.get_current()
        if now is self._after:
            context.attach(self._before)
        elif trace.get_current_span(now) is self._span:  # with something added, and left there
            context.attach(trace.set_span_in_context(trace.get_current_span(self._before), now))
