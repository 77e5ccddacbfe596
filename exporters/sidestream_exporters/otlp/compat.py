"""Private names of OpenTelemetry and urllib3 that the exporter uses, with a probe for each."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from sidestream.diagnostics import warn_once

LOGS = ("_logs", "sdk._logs", "exporter.otlp.proto.http._log_exporter", "exporter.otlp.proto.grpc._log_exporter")
"""Modules of log records, within `opentelemetry`."""


def probe() -> list[str]:
    """Descriptions of missing private names, each with the feature lost; empty if all are present."""
    from opentelemetry.sdk.trace import TracerProvider

    lost = []
    if not hasattr(HTTPConnection, "_new_conn"):
        lost.append("urllib3 HTTPConnection._new_conn: a name server that hangs, an answer that drips are not cut off")
    if not hasattr(TracerProvider(shutdown_on_exit=False), "_active_span_processor"):
        lost.append("TracerProvider._active_span_processor: no spans can be handed to an application's provider")
    if any(find_spec(f"opentelemetry.{name}") is None for name in LOGS):
        lost.append("opentelemetry.sdk._logs and the exporters of log records: scores are not sent")
    if not hasattr(BoundedList(1), "dropped"):
        lost.append("BoundedList.dropped: the number of events that a span lost is not reported")
    return lost


def log_record(
    event_name: str,
    at: int,
    trace_id: int | None,
    span_id: int | None,
    attributes: Mapping[str, Any],
    resource: Resource,
    scope: InstrumentationScope,
) -> Any:
    """Log record of the SDK, whose modules for logs have private names. Without ids, it is linked to no span."""
    from opentelemetry._logs import LogRecord
    from opentelemetry.sdk._logs import ReadableLogRecord

    span: Any = INVALID_SPAN
    if trace_id is not None and span_id is not None:
        sampled = TraceFlags(TraceFlags.SAMPLED)
        span = NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=False, trace_flags=sampled))
    record = LogRecord(
        timestamp=at,
        observed_timestamp=at,
        context=set_span_in_context(span, Context()),
        attributes=dict(attributes),
        event_name=event_name,
    )
    return ReadableLogRecord(record, resource, scope)


def log_exporter_class(protocol: str) -> Any:
    """Class of the library's exporter of log records, whose module has a private name."""
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GRPCLogExporter

        return GRPCLogExporter
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    return OTLPLogExporter


def replace_stub(exporter: Any, headers: Mapping[str, str]) -> Any:
    """Replace the stub of the library's gRPC exporter by a `OneAttemptStub` with `headers`, and return the new stub.

    If the exporter has no `_client`, the library's own stub stays: requests are retried within the timeout, and a
    partial success counts as a full one.
    """
    from .grpc_stub import OneAttemptStub

    stub = OneAttemptStub(getattr(exporter, "_client", None), headers)
    if hasattr(exporter, "_client"):
        exporter._client = stub
    else:
        warn_once("OTLP over gRPC: this version of the library hides rejected spans", "grpc-client")
    return stub


@contextmanager
def silent_headers() -> Iterator[None]:
    """Suppress the library's warnings about OTEL_EXPORTER_OTLP_HEADERS, which quote the malformed header: a secret.

    The library reads the variable even if headers are passed to its exporter.
    """
    logger, here = logging.getLogger("opentelemetry.util.re"), threading.get_ident()

    def of_others(record: logging.LogRecord) -> bool:
        return record.thread != here

    logger.addFilter(of_others)
    try:
        yield
    finally:
        logger.removeFilter(of_others)


def pool_classes(
    opened: Callable[[socket.socket], None], closed: Callable[[], None], open_within: Callable[..., socket.socket]
) -> dict[str, Any]:
    """Connection pool classes, by scheme, that call `opened` and `closed` for each socket.

    `open_within(address, connect, seconds)` opens the socket, and raises `TimeoutError` after `seconds`.
    """

    class Reporting:
        """Callbacks shared by both connection classes."""

        def _new_conn(self) -> socket.socket:
            connect: Callable[[], socket.socket] = super()._new_conn  # type: ignore[misc]
            connection = open_within((self.host, self.port), connect, self.timeout)  # type: ignore[attr-defined]
            opened(connection)
            return connection

        def close(self) -> None:
            super().close()  # type: ignore[misc]
            closed()

    class Plain(Reporting, HTTPConnection):
        pass

    class Secure(Reporting, HTTPSConnection):
        pass

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def hand_over(provider: Any, span: ReadableSpan) -> None:
    """Pass a finished span to the provider's span processors. The provider's API only creates unfinished spans."""
    provider._active_span_processor.on_end(span)


def with_dropped(events: Sequence[Event], dropped: int) -> Sequence[Event]:
    """`events` as a sequence that reports `dropped` further events to the encoder."""
    bounded: Any = BoundedList.from_seq(len(events), events)
    bounded.dropped = dropped
    return bounded  # type: ignore[no-any-return]
