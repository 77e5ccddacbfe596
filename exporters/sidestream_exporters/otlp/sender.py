"""Sender of spans, metrics and scores through OpenTelemetry's own OTLP exporters, with one bounded attempt per call.

The library encodes and sends; the pipeline waits and retries, since it keeps the batch. The library's own retry loop
loses a batch after ten seconds, and counts a partial success as a full one.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from .compat import log_exporter_class, replace_stub, silent_headers
from .failures import AttemptFailed, PermanentError
from .settings import Endpoint, Signal

_GRPC_OPTIONS = (
    ("grpc.enable_retries", 0),  # the pipeline schedules retries; the channel must reconnect promptly for each
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class Sender:
    """Connection to one endpoint for one signal, opened by the first `send`."""

    def __init__(self, endpoint: Endpoint, signal: Signal) -> None:
        make = _grpc if endpoint.protocol == "grpc" else _http
        with silent_headers():
            self._exporter, self._attempt = make(endpoint, signal)

    def send(self, data: Any) -> int:
        """Deliver spans (`Sequence[ReadableSpan]`), `MetricsData` or log records; returns the number of rejected items.

        Raises:
            RetryableError: The same request may succeed later.
            PermanentError: The endpoint does not accept the request.
        """
        self._attempt.rejected = 0
        try:
            result = self._exporter.export(data)
        except AttemptFailed as failed:
            raise failed.failure from failed.__cause__
        if result.name != "SUCCESS":
            reason = "request cannot be encoded, or is above the library's limit"
            raise PermanentError(reason, "let less content out", too_large=True)
        return int(self._attempt.rejected)

    def close(self) -> None:
        self._exporter.shutdown()


def _http(endpoint: Endpoint, signal: Signal) -> tuple[Any, Any]:
    from opentelemetry.exporter.otlp.proto.http import Compression

    from .http_session import OneAttemptSession

    session = OneAttemptSession(endpoint, signal)
    exporter = _exporter_class(endpoint, signal)(
        endpoint=endpoint.url,
        certificate_file=endpoint.certificate,
        client_key_file=endpoint.client_key,
        client_certificate_file=endpoint.client_certificate,
        timeout=endpoint.timeout,
        compression=Compression.Gzip if endpoint.compression == "gzip" else Compression.NoCompression,
        session=session,
    )
    return exporter, session


def _grpc(endpoint: Endpoint, signal: Signal) -> tuple[Any, Any]:
    from grpc import Compression  # type: ignore[import-untyped,unused-ignore]

    from .grpc_stub import credentials

    exporter = _exporter_class(endpoint, signal)(
        endpoint=endpoint.url,
        insecure=not endpoint.secure,
        credentials=credentials(endpoint.certificate, endpoint.client_key, endpoint.client_certificate)
        if endpoint.secure
        else None,
        headers=dict(endpoint.headers),
        timeout=endpoint.timeout,
        compression=Compression.Gzip if endpoint.compression == "gzip" else Compression.NoCompression,
        channel_options=(*_GRPC_OPTIONS, ("grpc.primary_user_agent", f"sidestream/{version('sidestream')}")),
    )
    return exporter, replace_stub(exporter, endpoint.headers)


def load_library(endpoint: Endpoint) -> None:
    """Import the modules for sending to `endpoint` early: an import during a run would block the agent's event loop."""
    _exporter_class(endpoint, "traces")
    if endpoint.protocol == "grpc":
        from . import grpc_stub  # noqa: F401
    else:
        from . import http_session  # noqa: F401


def _exporter_class(endpoint: Endpoint, signal: Signal) -> Any:
    if signal == "logs":
        return log_exporter_class(endpoint.protocol)
    if endpoint.protocol == "grpc":
        if signal == "traces":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GRPCSpanExporter

            return GRPCSpanExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GRPCMetricExporter

        return GRPCMetricExporter
    if signal == "traces":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter
