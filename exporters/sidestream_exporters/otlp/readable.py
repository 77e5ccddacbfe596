"""Conversion of finished spans to the SDK's `ReadableSpan`, one by one or as the batch of a request."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from .compat import with_dropped
from .runs import Attributes, ItemT, Span
from .semantic_conventions import SCHEMA_URL

REQUEST_CHARACTERS = 3_000_000
"""Characters in the spans of one request; gRPC servers accept 4 MiB by default. A request that is larger because of
multi-byte characters is halved after the server refuses it."""
REQUEST_SPANS = 200
"""Spans of one request. Serialisation holds the GIL for about half a microsecond per span."""

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def make_resource() -> Resource:
    """Resource of the environment (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, …), with an instance id."""
    found = Resource.create({}, SCHEMA_URL)
    return found if SERVICE_INSTANCE_ID in found.attributes else of_this_process(found)


def of_this_process(resource: Resource) -> Resource:
    """Copy of `resource` with a new `service.instance.id`, unless the environment sets one."""
    if f"{SERVICE_INSTANCE_ID}=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        return resource
    return resource.merge(Resource({SERVICE_INSTANCE_ID: str(uuid.uuid4())}))


def scope() -> InstrumentationScope:
    return InstrumentationScope("sidestream", version("sidestream"), SCHEMA_URL)


def readable(span: Span, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    """SDK span for `span`."""
    context = SpanContext(span.trace_id, span.span_id, is_remote=False, trace_flags=_SAMPLED)
    parent = None
    if span.parent_id is not None:
        parent = SpanContext(span.trace_id, span.parent_id, is_remote=False, trace_flags=_SAMPLED)
    span_events: Sequence[Event] = [Event(_text(name), plain(values), at) for name, at, values in span.span_events]
    if span.dropped_span_events:
        span_events = with_dropped(span_events, span.dropped_span_events)
    status = Status(StatusCode.ERROR, _text(span.description) if span.description else None)
    return ReadableSpan(
        name=_text(span.name),
        context=context,
        parent=parent,
        resource=resource,
        attributes=plain(span.attributes),
        events=span_events,
        kind=SpanKind.CLIENT if span.client else SpanKind.INTERNAL,
        status=status if span.failed else Status(StatusCode.UNSET),
        start_time=span.start,
        end_time=span.end,
        instrumentation_scope=scope,
    )


# --- batches -------------------------------------------------------------------------------------------------------


class SpanBatch(Sequence[ReadableSpan]):
    """Spans of one export request, converted lazily while the library's encoder iterates.

    `maybe_yield` runs after each span, so that encoding a large batch does not hold the GIL throughout.
    """

    def __init__(
        self, spans: Sequence[Span], resource: Resource, scope: InstrumentationScope, maybe_yield: Callable[[], None]
    ) -> None:
        self.spans = spans
        self._resource = resource
        self._scope = scope
        self._maybe_yield = maybe_yield

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[ReadableSpan]:
        for span in self.spans:
            yield readable(span, self._resource, self._scope)
            self._maybe_yield()

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]


def requests_of(items: Sequence[ItemT]) -> Iterator[Sequence[ItemT]]:
    """Split `items` into export requests of at most `REQUEST_SPANS` items and about `REQUEST_CHARACTERS`."""
    size = first = 0
    for number, item in enumerate(items):
        length = item.text_length()
        if number > first and (size + length > REQUEST_CHARACTERS or number - first == REQUEST_SPANS):
            yield items[first:number]
            size, first = 0, number
        size += length
    if items:
        yield items[first:]


# --- values --------------------------------------------------------------------------------------------------------


def plain(attributes: Attributes) -> Attributes:
    """`attributes` without None values, and with values converted to types that protobuf can hold."""
    return {_text(name): _value(value) for name, value in attributes.items() if value is not None}


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    return _text(str(value))


def _text(text: str) -> str:
    """`text` with lone surrogates escaped, which UTF-8 cannot hold."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
