"""HTTP session for the library's OTLP exporter: one attempt per call, with an overall time limit."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.client import BadStatusLine
from importlib.metadata import version
from types import TracebackType
from typing import Any

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter

from .answers import answer_type, rejected_items
from .compat import pool_classes
from .connecting import BoundedConnecting
from .failures import CREDENTIALS, NOT_OTLP, TLS, TOO_LARGE, AttemptFailed, PermanentError, RetryableError
from .settings import Endpoint, Signal

ANSWER_BYTES = 65_536
"""Most bytes read of a response; responses of OTLP servers are short."""

_ADVICE = {
    400: "the server could not read it: check that it takes OTLP over HTTP with protobuf",
    401: CREDENTIALS,
    403: CREDENTIALS,
    404: "check the path: most servers take {path}",
    405: "check the path: most servers take {path}",
    407: "the proxy wants credentials: write them into its address, http://USER:PASSWORD@HOST:PORT",
    413: TOO_LARGE,
    415: "the server does not take protobuf: point to one that does, such as an OpenTelemetry Collector",
}
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})\b")
"""Text of http.client's error for a proxy that opens no tunnel to an https address."""


class OneAttemptSession(requests.Session):
    """Session whose `request` returns an accepted response or raises `AttemptFailed`, within the endpoint's timeout.

    Proxies, with credentials, come from the environment, as `requests` reads them. The netrc file is ignored: its
    credentials would replace the exporter's own headers.
    """

    def __init__(self, endpoint: Endpoint, signal: Signal) -> None:
        super().__init__()
        self.rejected = 0
        """Items that the endpoint rejected of the last accepted request."""
        self.auth = lambda request: request
        self._endpoint = endpoint
        self._path = f"/v1/{signal}"
        self._answer = answer_type(signal)
        self._adapter = _AbortableAdapter()
        self.mount("http://", self._adapter)
        self.mount("https://", self._adapter)
        # The library merges OTEL_EXPORTER_OTLP_HEADERS into the given headers; `endpoint.headers` is complete already.
        self._headers = {
            "user-agent": f"sidestream/{version('sidestream')}",
            "content-type": "application/x-protobuf",
            **({"content-encoding": "gzip"} if endpoint.compression == "gzip" else {}),
            **endpoint.headers,
        }

    def request(self, method: Any, url: Any, **options: Any) -> requests.Response:  # type: ignore[override]
        """Send one request. Raises `AttemptFailed` for any response but an acceptance."""
        self.headers.clear()
        self._adapter.begin()
        with _Deadline(self._endpoint.timeout, self._adapter.abort) as deadline:
            try:
                response = super().request(
                    method,
                    url,
                    data=options.get("data"),
                    headers=self._headers,
                    timeout=self._endpoint.timeout,
                    # REQUESTS_CA_BUNDLE overrides the session's `verify`, but not this argument.
                    verify=self._endpoint.certificate,
                    stream=True,
                    allow_redirects=False,
                )
                try:
                    answer = response.raw.read(ANSWER_BYTES, decode_content=True)
                finally:
                    response.close()
            except (OSError, urllib3.exceptions.HTTPError, ValueError) as error:
                failure = RetryableError("timed out") if deadline.passed else _failure(error)
                raise AttemptFailed(failure) from error
        if deadline.passed:  # a response cut off within its headers parses as a complete one
            raise AttemptFailed(RetryableError("timed out"))
        self.rejected = self._judge(response, answer)
        return response

    def _judge(self, response: requests.Response, answer: bytes) -> int:
        status = response.status_code
        if status in (429, 502, 503, 504):
            raise AttemptFailed(RetryableError(f"HTTP {status}", _retry_after(response.headers.get("retry-after"))))
        if not 200 <= status < 300:
            moved = "it moved: give the new address" if 300 <= status < 400 else ""
            advice = (moved or _ADVICE.get(status, "see the log of the server")).format(path=self._path)
            raise AttemptFailed(PermanentError(f"HTTP {status}", advice, too_large=status == 413))
        if not answer:
            return 0
        content_type = response.headers.get("content-type", "")
        try:
            if "json" in content_type:
                partial = msgspec.json.decode(answer, type=dict[str, Any]).get("partialSuccess") or {}
                fields = ("rejectedSpans", "rejectedDataPoints", "rejectedLogRecords")
                return max(0, *(int(partial.get(field) or 0) for field in fields))
            if "protobuf" in content_type:
                return rejected_items(self._answer.FromString(answer))
        except Exception as error:
            raise AttemptFailed(PermanentError("the answer is not OTLP", NOT_OTLP)) from error
        raise AttemptFailed(PermanentError("the answer is not OTLP", NOT_OTLP))


class _AbortableAdapter(HTTPAdapter):
    """Adapter whose connection another thread can shut down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._aborted = False
        self._pools = pool_classes(self._opened, self._closed, BoundedConnecting().open)
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        if type(manager) is urllib3.ProxyManager:  # a SOCKS manager has connection classes of its own
            manager.pool_classes_by_scheme = self._pools
        return manager

    def begin(self) -> None:
        """Reset the abort flag for a new request."""
        with self._lock:
            self._aborted = False

    def abort(self) -> None:
        """Shut down the connection, or the next one to open, so that a blocking read or write fails at once."""
        with self._lock:
            self._aborted = True
            self._cut()

    def _cut(self) -> None:
        if self._handle is not None:
            try:
                self._handle.shutdown(socket.SHUT_RDWR)
            except OSError:  # the peer closed the connection first
                pass

    def _opened(self, connection: socket.socket) -> None:
        # A duplicate descriptor of the connection: the TLS handshake detaches the original from its socket object.
        self._closed()
        with self._lock:
            self._handle = connection.dup()
            if self._aborted:
                self._cut()

    def _closed(self) -> None:
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None


class _Deadline:
    """Timer that calls `abort` after `seconds`.

    A socket timeout bounds a single read only: a server that sends a byte now and then would hold a request forever.
    """

    def __init__(self, seconds: float, abort: Any) -> None:
        self.passed = False
        self._abort = abort
        self._timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._expire)
        self._timer.daemon = True

    def _expire(self) -> None:
        self.passed = True
        self._abort()

    def __enter__(self) -> _Deadline:
        try:
            self._timer.start()
        except RuntimeError:  # no threads at interpreter shutdown: only the socket timeout applies
            pass
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._timer.cancel()


def _failure(error: BaseException) -> RetryableError | PermanentError:
    causes = list(_causes(error))
    if any(isinstance(each, BadStatusLine) and not isinstance(each, ConnectionResetError) for each in causes):
        return PermanentError("the answer is not HTTP", NOT_OTLP)
    if isinstance(error, requests.exceptions.SSLError) and "EOF" not in str(error):
        return PermanentError("TLS failed", TLS)
    for tunnel in filter(None, (_TUNNEL.match(str(each)) for each in causes)):
        status = int(tunnel[1])
        if status in (403, 407):
            advice = (
                _ADVICE[407] if status == 407 else "the proxy lets nothing through to this address: ask who runs it"
            )
            return PermanentError(f"HTTP {status} of the proxy", advice)
        return RetryableError(f"HTTP {status} of the proxy")
    if isinstance(error, ValueError) and not isinstance(error, requests.exceptions.JSONDecodeError):
        return PermanentError(type(error).__name__, "check the address, and that of the proxy")
    known = (each.strerror for each in causes if isinstance(each, OSError) and each.strerror)
    timeout = isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError)
    return RetryableError(next(known, "timed out" if timeout else "connection closed"))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _retry_after(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header, which holds a number of seconds or a date; None if missing or malformed."""
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
