"""One request to an OTLP endpoint: sent, or an exception that says whether to try again.

What may be tried again, and when, is the protocol's own rule (https://opentelemetry.io/docs/specs/otlp/#failures).
The SDK's exporters are not used for sending: they retry within a call until their time is over and then lose the
batch, and they take a partial success for a whole one. Here a call is one attempt, and the worker keeps what must wait.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.client import BadStatusLine
from importlib.metadata import version
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec

from .settings import Endpoint, Signal

ANSWER_BYTES = 65_536
"""Of an answer no more is read: an OTLP server says little."""
SERVICES = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}


class Away(Exception):
    """The endpoint cannot take it now. `after`: seconds it asked to be left alone, if it did."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Refused(Exception):
    """The endpoint will never take it. `advice`: what a person can do."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice


class Sender(Protocol):
    """A connection to one endpoint, for one signal."""

    def send(self, body: bytes) -> int:
        """Deliver an encoded export request; returns how many of its items the server rejected.

        Raises:
            Away: it may be tried again.
            Refused: it is lost.
        """

    def close(self) -> None: ...


def sender_to(endpoint: Endpoint, signal: Signal) -> Sender:
    """A sender for `endpoint`, which connects when it sends."""
    return GRPCSender(endpoint, signal) if endpoint.protocol == "grpc" else HTTPSender(endpoint, signal)


def load_library(endpoint: Endpoint) -> None:
    """Import what sending to `endpoint` needs: now, and not beside a running agent whose loop it would hold up."""
    if endpoint.protocol == "grpc":
        import google.rpc.error_details_pb2  # type: ignore[import-untyped,unused-ignore]
        import google.rpc.status_pb2  # type: ignore[import-untyped,unused-ignore] # noqa: F401
        import grpc  # type: ignore[import-untyped,unused-ignore] # noqa: F401
    else:
        import urllib3  # noqa: F401
    _answer_type("traces")


def _answer_type(signal: Signal) -> Any:
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        return ExportTraceServiceResponse
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

    return ExportMetricsServiceResponse


def _rejected(answer: Any) -> int:
    partial = answer.partial_success
    return max(0, getattr(partial, "rejected_spans", 0) or getattr(partial, "rejected_data_points", 0))


# --- HTTP ----------------------------------------------------------------------------------------------------------

_ADVICE = {
    400: "the server could not read it: check that it takes OTLP over HTTP with protobuf",
    401: "check the credentials in OTEL_EXPORTER_OTLP_HEADERS",
    403: "check the credentials in OTEL_EXPORTER_OTLP_HEADERS",
    404: "check the path: most servers take {path}",
    405: "check the path: most servers take {path}",
    413: "one request was too large: let less content out, or raise the server's limit",
    415: "the server does not take protobuf: point to one that does, such as an OpenTelemetry Collector",
}
_NOT_OTLP = "something else answers there: check host, port and protocol (4318 is http/protobuf, 4317 is grpc)"
_TLS = "check the certificates (OTEL_EXPORTER_OTLP_CERTIFICATE), and http:// against https:// in the address"


class HTTPSender:
    # urllib3 and not requests, which is built on it: a request holds the GIL for a third of the time.
    def __init__(self, endpoint: Endpoint, signal: Signal) -> None:
        self._endpoint = endpoint
        self._answer = _answer_type(signal)
        self._path = f"/v1/{signal}"
        self._pool = _pool(endpoint)
        self._headers = {
            "user-agent": f"sidestream/{version('sidestream')}",
            "content-type": "application/x-protobuf",
            **({"content-encoding": "gzip"} if endpoint.compression == "gzip" else {}),
            **endpoint.headers,
        }

    def send(self, body: bytes) -> int:
        import urllib3

        if self._endpoint.compression == "gzip":
            body = gzip.compress(body, mtime=0)
        try:
            response = self._pool.request(
                "POST",
                self._endpoint.url,
                body=body,
                headers=self._headers,
                timeout=self._endpoint.timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
            answer = response.read(ANSWER_BYTES)
            if len(answer) < ANSWER_BYTES:
                response.release_conn()
            else:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _http_failure(error) from error
        if response.status in (429, 502, 503, 504):
            raise Away(f"HTTP {response.status}", _retry_after(response.headers.get("retry-after")))
        if not 200 <= response.status < 300:
            redirect = "it moved: give the new address" if 300 <= response.status < 400 else ""
            advice = redirect or _ADVICE.get(response.status, "see the log of the server")
            raise Refused(f"HTTP {response.status}", advice.format(path=self._path))
        return self._rejected(response.headers.get("content-type", ""), answer)

    def _rejected(self, content_type: str, answer: bytes) -> int:
        if not answer:
            return 0
        try:
            if "json" in content_type:
                partial = msgspec.json.decode(answer, type=dict[str, Any]).get("partialSuccess") or {}
                return max(0, int(partial.get("rejectedSpans") or partial.get("rejectedDataPoints") or 0))
            if "protobuf" in content_type:
                return _rejected(self._answer.FromString(answer))
        except Exception:
            pass
        raise Refused("the answer is not OTLP", _NOT_OTLP)

    def close(self) -> None:
        self._pool.clear()


def _pool(endpoint: Endpoint) -> Any:
    """Connections to `endpoint`, through the proxy that the environment names for it, if it does."""
    import urllib3

    options: dict[str, Any] = {"ca_certs": endpoint.certificate} if endpoint.certificate else {}
    if endpoint.client_certificate is not None:
        options |= {"cert_file": endpoint.client_certificate, "key_file": endpoint.client_key}
    parts = urlsplit(endpoint.url)
    proxy = getproxies().get(parts.scheme)
    if proxy is None or proxy_bypass(parts.netloc):
        return urllib3.PoolManager(**options)
    return urllib3.ProxyManager(proxy if "://" in proxy else f"http://{proxy}", **options)


def _http_failure(error: BaseException) -> Away | Refused:
    import urllib3

    causes = list(_causes(error))
    if any(isinstance(each, BadStatusLine) and not isinstance(each, ConnectionResetError) for each in causes):
        return Refused("the answer is not HTTP", _NOT_OTLP)
    if isinstance(error, urllib3.exceptions.SSLError) and "EOF" not in str(error):
        return Refused("TLS failed", _TLS)
    if isinstance(error, urllib3.exceptions.LocationValueError):
        return Refused(type(error).__name__, "check the address")
    told = next((each.strerror for each in causes if isinstance(each, OSError) and each.strerror), None)
    timeout = isinstance(error, urllib3.exceptions.TimeoutError)
    return Away(told or ("timed out" if timeout else "connection closed"))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _retry_after(value: str | None) -> float | None:
    """Seconds, from a number of them or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


# --- gRPC ----------------------------------------------------------------------------------------------------------

_OPTIONS = [
    ("grpc.enable_retries", 0),  # when to try again is the pipeline's to say; a channel must then do so at once
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
_AGAIN = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
_GRPC_ADVICE = {
    "UNAUTHENTICATED": _ADVICE[401],
    "PERMISSION_DENIED": _ADVICE[403],
    "RESOURCE_EXHAUSTED": _ADVICE[413],
    "UNIMPLEMENTED": _NOT_OTLP,
    "INVALID_ARGUMENT": "the server could not read it: check that it takes OTLP",
}


class GRPCSender:
    def __init__(self, endpoint: Endpoint, signal: Signal) -> None:
        import grpc  # type: ignore[import-untyped,unused-ignore]

        self._grpc = grpc
        self._timeout = endpoint.timeout
        self._headers = tuple(endpoint.headers.items())
        target = urlsplit(endpoint.url).netloc
        compression = grpc.Compression.Gzip if endpoint.compression == "gzip" else grpc.Compression.NoCompression
        options = [*_OPTIONS, ("grpc.primary_user_agent", f"sidestream/{version('sidestream')}")]
        if endpoint.secure:
            credentials = grpc.ssl_channel_credentials(
                _bytes_of(endpoint.certificate), _bytes_of(endpoint.client_key), _bytes_of(endpoint.client_certificate)
            )
            self._channel = grpc.secure_channel(target, credentials, options, compression)
        else:
            self._channel = grpc.insecure_channel(target, options, compression)
        self._call = self._channel.unary_unary(
            SERVICES[signal], request_serializer=None, response_deserializer=_answer_type(signal).FromString
        )

    def send(self, body: bytes) -> int:
        try:
            answer = self._call(body, timeout=self._timeout, metadata=self._headers)
        except self._grpc.RpcError as error:
            raise _grpc_failure(error) from error
        return _rejected(answer)

    def close(self) -> None:
        self._channel.close()


def _grpc_failure(error: Any) -> Away | Refused:
    code, details = error.code().name, (error.details() or "").lower()
    # What went wrong before a word of gRPC was spoken is told in text alone, and all of it is UNAVAILABLE.
    if code == "UNAVAILABLE" and "tls handshake failed" in details:
        return Refused("TLS failed", _TLS)
    if code == "UNAVAILABLE" and ("failed parsing http/2" in details or "alpn property" in details):
        return Refused("the answer is not gRPC", _NOT_OTLP)
    if code == "INTERNAL" and "deserializing response" in details:
        return Refused("the answer is not OTLP", _NOT_OTLP)
    after = _retry_delay(error)
    if code in _AGAIN or (code == "RESOURCE_EXHAUSTED" and after is not None):
        return Away(code, after)
    return Refused(code, _GRPC_ADVICE.get(code, "see the log of the server"))


def _retry_delay(error: Any) -> float | None:
    """Seconds, from the `RetryInfo` that a status may carry."""
    from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped,unused-ignore]
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped,unused-ignore]

    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            try:
                for detail in Status.FromString(value).details:
                    info = RetryInfo()
                    if detail.Unpack(info):
                        return max(0.0, float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
            except Exception:  # a status of somebody else's making
                return None
    return None


def _bytes_of(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()
