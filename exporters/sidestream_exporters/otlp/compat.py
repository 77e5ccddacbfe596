"""Private names of OpenTelemetry and urllib3 that the exporter uses, with a probe for each."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from sidestream.diagnostics import warn_once


def probe() -> list[str]:
    """Descriptions of missing private names, each with the feature lost; empty if all are present."""
    from opentelemetry.sdk.trace import TracerProvider

    lost = []
    if not hasattr(HTTPConnection, "_new_conn"):
        lost.append("urllib3 HTTPConnection._new_conn: a name server that hangs, an answer that drips are not cut off")
    if not hasattr(TracerProvider(shutdown_on_exit=False), "_active_span_processor"):
        lost.append("TracerProvider._active_span_processor: no spans can be handed to an application's provider")
    if not hasattr(BoundedList(1), "dropped"):
        lost.append("BoundedList.dropped: how many events a span lost is not told")
    return lost


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
