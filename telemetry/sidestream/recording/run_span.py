"""OpenTelemetry span object for a span of an observed run. Imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, get_current_span

if TYPE_CHECKING:
    from .span_context import OwnSpan, SpanRef


class RunSpan(NonRecordingSpan):
    """Non-recording span with the ids of a span that is built from events later.

    The ids are derived on first access, because most code inside a run makes no spans.

    Args:
        span: The ids.
        before: Previous context; provides the trace state if its span belongs to the same trace.
    """

    def __init__(self, span: SpanRef | OwnSpan, before: Context) -> None:
        self._span = span
        self._before = before
        self._known: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        known = self._known
        if known is None:
            trace_id = int(self._span.trace_id, 16)
            outer = get_current_span(self._before).get_span_context()
            known = self._known = SpanContext(
                trace_id,
                int(self._span.span_id, 16),
                is_remote=False,
                trace_flags=TraceFlags(TraceFlags.SAMPLED if self._span.sampled else TraceFlags.DEFAULT),
                trace_state=outer.trace_state if outer.trace_id == trace_id else None,
            )
        return known

    def __repr__(self) -> str:
        return f"RunSpan({self.get_span_context()!r})"
