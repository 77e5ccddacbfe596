"""Finished spans as the bytes of export requests, and as the SDK's own objects."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope as ScopeMessage
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status as StatusMessage
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from .runs import Attributes, Span

REQUEST_BYTES = 3_000_000
"""Of one export request before compression: gRPC servers take 4 MiB unless told otherwise."""
REQUEST_SPANS = 200
"""Spans that are serialised at once, which holds the GIL for about half a microsecond each."""

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def make_resource() -> Resource:
    """The environment's resource: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, …"""
    found = Resource.create()
    return found if SERVICE_INSTANCE_ID in found.attributes else of_this_process(found)


def of_this_process(resource: Resource) -> Resource:
    """`resource` as an instance of its own, unless the environment says which it is."""
    if f"{SERVICE_INSTANCE_ID}=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        return resource
    return resource.merge(Resource({SERVICE_INSTANCE_ID: str(uuid.uuid4())}))


def scope() -> InstrumentationScope:
    return InstrumentationScope("sidestream", version("sidestream"))


def readable(span: Span, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    """`span` as a finished span of the SDK, for the processors of an application's own provider."""
    context = SpanContext(span.trace_id, span.span_id, is_remote=False, trace_flags=_SAMPLED)
    parent = None
    if span.parent_id is not None:
        parent = SpanContext(span.trace_id, span.parent_id, is_remote=False, trace_flags=_SAMPLED)
    moments: Sequence[Event] = [Event(_text(name), plain(told), at) for name, at, told in span.moments]
    if span.dropped_moments:
        bounded: Any = BoundedList.from_seq(len(moments), moments)
        bounded.dropped = span.dropped_moments
        moments = bounded
    status = Status(StatusCode.ERROR, _text(span.description) if span.description else None)
    return ReadableSpan(
        name=_text(span.name),
        context=context,
        parent=parent,
        resource=resource,
        attributes=plain(span.attributes),
        events=moments,
        kind=SpanKind.CLIENT if span.client else SpanKind.INTERNAL,
        status=status if span.failed else Status(StatusCode.UNSET),
        start_time=span.start,
        end_time=span.end,
        instrumentation_scope=scope,
    )


# --- as bytes ------------------------------------------------------------------------------------------------------


class Encoder:
    """Makes export requests. The SDK's own encoder takes four times as long for a span, much of it for the resource."""

    def __init__(self, resource: Resource) -> None:
        self._resource = ResourceMessage()
        put_attributes(self._resource.attributes, plain(dict(resource.attributes)))
        self._scope = ScopeMessage(name="sidestream", version=version("sidestream"))

    def requests(self, spans: Sequence[Span], breathe: Callable[[], None]) -> Iterator[tuple[bytes, Sequence[Span]]]:
        """Encoded requests, each with its spans; `breathe` is called after each little bit of work."""
        messages: list[Any] = []
        size = first = 0
        for number, span in enumerate(spans):
            message = encode(span)
            length = message.ByteSize()
            if messages and (size + length > REQUEST_BYTES or len(messages) == REQUEST_SPANS):
                yield self._request(messages), spans[first:number]
                messages, size, first = [], 0, number
            messages.append(message)
            size += length
            breathe()
        if messages:
            yield self._request(messages), spans[first:]

    def _request(self, messages: Sequence[Any]) -> bytes:
        scoped = ScopeSpans(scope=self._scope, spans=messages)
        part = ResourceSpans(resource=self._resource, scope_spans=[scoped])
        return bytes(ExportTraceServiceRequest(resource_spans=[part]).SerializeToString())


def encode(span: Span) -> Any:
    """`span` as protobuf."""
    message = SpanMessage(
        trace_id=span.trace_id.to_bytes(16, "big"),
        span_id=span.span_id.to_bytes(8, "big"),
        parent_span_id=b"" if span.parent_id is None else span.parent_id.to_bytes(8, "big"),
        name=_text(span.name),
        kind=SpanMessage.SPAN_KIND_CLIENT if span.client else SpanMessage.SPAN_KIND_INTERNAL,
        start_time_unix_nano=span.start,
        end_time_unix_nano=span.end,
        dropped_events_count=span.dropped_moments,
        flags=TraceFlags.SAMPLED,
    )
    put_attributes(message.attributes, plain(span.attributes))
    for name, at, told in span.moments:
        event = message.events.add(name=_text(name), time_unix_nano=at)
        put_attributes(event.attributes, plain(told))
    if span.failed:
        message.status.code = StatusMessage.STATUS_CODE_ERROR
        message.status.message = _text(span.description or "")
    return message


def put_attributes(into: Any, attributes: Mapping[str, Any]) -> None:
    """Add `attributes`, of values that protobuf can hold, to a repeated field of protobuf."""
    for key, value in attributes.items():
        pair = into.add()
        pair.key = key
        _put(pair.value, value)


def _put(into: Any, value: Any) -> None:
    if isinstance(value, str):
        into.string_value = value
    elif isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, int):
        into.int_value = value
    elif isinstance(value, float):
        into.double_value = value
    else:
        into.array_value.SetInParent()
        for item in value:
            _put(into.array_value.values.add(), item)


# --- values --------------------------------------------------------------------------------------------------------


def plain(attributes: Attributes) -> Attributes:
    """`attributes` without those that are absent, and with values that protobuf can hold."""
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
    """`text`, with what UTF-8 cannot hold as its escape."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
