"""gRPC stub of the library's OTLP exporter: a call is one attempt, and its answer is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc  # type: ignore[import-untyped,unused-ignore]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped,unused-ignore]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped,unused-ignore]

from .answers import rejected_items
from .failures import CREDENTIALS, NOT_OTLP, TLS, TOO_LARGE, PermanentError, RetryableError

_RETRYABLE = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
_ADVICE = {
    "UNAUTHENTICATED": CREDENTIALS,
    "PERMISSION_DENIED": CREDENTIALS,
    "RESOURCE_EXHAUSTED": TOO_LARGE,
    "UNIMPLEMENTED": NOT_OTLP,
    "INVALID_ARGUMENT": "the server could not read it: check that it takes OTLP",
}


class OneAttemptStub:
    """Stub that raises our failures: the library tries an `RpcError` again, and knows no partial success."""

    def __init__(self, stub: Any, headers: Mapping[str, str]) -> None:
        self._stub = stub
        self._headers = tuple(headers.items())
        self.rejected = 0
        """Items that the last accepted request did not get in."""

    def Export(self, request: Any, metadata: Any = None, timeout: float | None = None) -> Any:
        """Send one request with the endpoint's headers alone. Raises `RetryableError` or `PermanentError`."""
        try:
            answer = self._stub.Export(request, metadata=self._headers, timeout=timeout)
        except grpc.RpcError as error:
            raise _failure(error) from error
        self.rejected = rejected_items(answer)
        return answer


def credentials(certificate: str | None, key: str | None, chain: str | None) -> Any:
    """TLS credentials from PEM files; None stands for the system's."""
    return grpc.ssl_channel_credentials(*(None if path is None else _read(path) for path in (certificate, key, chain)))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _failure(error: Any) -> RetryableError | PermanentError:
    code, details = error.code().name, (error.details() or "").lower()
    # A failure before the first gRPC frame has only a text, and is UNAVAILABLE whatever it was.
    if code == "UNAVAILABLE" and ("tls handshake failed" in details or "ssl handshake failed" in details):
        return PermanentError("TLS failed", TLS)
    if code == "UNAVAILABLE" and ("failed parsing http/2" in details or "alpn property" in details):
        return PermanentError("the answer is not gRPC", NOT_OTLP)
    if code == "INTERNAL" and "deserializing response" in details:
        return PermanentError("the answer is not OTLP", NOT_OTLP)
    after = _retry_delay(error)
    if code in _RETRYABLE or (code == "RESOURCE_EXHAUSTED" and after is not None):
        return RetryableError(code, after)
    return PermanentError(code, _ADVICE.get(code, "see the log of the server"), too_large=code == "RESOURCE_EXHAUSTED")


def _retry_delay(error: Any) -> float | None:
    """Seconds, from the `RetryInfo` that a status may carry."""
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
