"""OpenTelemetry context: the enclosing span of a run, and Sidestream's own spans for nested code.

Spans are built later, from events. In the meantime the context holds a non-recording span with their ids. Context
tokens are not kept, because they are invalid if a run ends in another context.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from sidestream.diagnostics import warn_once
from sidestream.events.ids import span_id_of

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext

    from .run_span import RunSpan


class SpanRef(NamedTuple):
    """Span ids in hex."""

    trace_id: str
    span_id: str
    sampled: bool | None = None
    """Whether the trace is sampled; None if undecided."""


class OwnSpan(msgspec.Struct, frozen=True, gc=False):
    """Span of an observed run: like `SpanRef`, with an id derived on access."""

    trace_id: str
    run_id: str
    number: int
    sampled: bool | None

    @property
    def span_id(self) -> str:
        """Span id in hex, derived from the run and the number."""
        return span_id_of(self.run_id, self.number)


class _Api(NamedTuple):
    """Names of OpenTelemetry, cached because an import statement takes microseconds."""

    trace: ModuleType
    get_current: Callable[[], Context]
    attach: Callable[[Context], object]
    make_context: type[Context]
    run_span: type[RunSpan]
    key: str
    """Key of the current span in a context."""


@cache
def _api() -> _Api:
    from opentelemetry import context, trace

    from .run_span import RunSpan

    # The key is private. Read and written directly, because the functions for that call five others each.
    (key,) = trace.set_span_in_context(trace.INVALID_SPAN, context.Context())
    return _Api(trace, context.get_current, context.attach, context.Context, RunSpan, key)


def current_span_context() -> SpanContext | None:
    """Current OpenTelemetry span context; None outside of a span, or if OpenTelemetry is not imported."""
    if "opentelemetry.trace" not in sys.modules:
        return None  # no span without the library
    api = _api()
    span = cast("Span | None", api.get_current().get(api.key))
    return None if span is None else span.get_span_context()


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
    trace = _api().trace
    if isinstance(tracer, trace.ProxyTracer):  # delegates to the global provider once there is one
        return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    return tracer is not None and not isinstance(tracer, trace.NoOpTracer)


class ActiveSpan:
    """Current span of the context until `leave()`. Other context values stay unchanged."""

    __slots__ = ("_after", "_before", "_span")

    def __init__(self, span: SpanRef | OwnSpan) -> None:
        _, get_current, attach, make_context, run_span, key = _api()
        self._before = before = get_current()
        self._span = active = run_span(span, before)
        self._after = after = make_context({**before, key: active})
        attach(after)

    def leave(self) -> None:
        """Restore the previous span. No-op in any other context, and on further calls."""
        trace, get_current, attach, make_context, _, key = _api()
        now = get_current()
        if now is self._after:
            attach(self._before)
        elif now.get(key) is self._span:  # keep values that were added to the context meanwhile
            attach(make_context({**now, key: trace.get_current_span(self._before)}))
