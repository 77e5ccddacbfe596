"""gRPC stub for the library's OTLP exporter: one attempt per call, and partial successes are read."""

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
    """Stub that raises `RetryableError` or `PermanentError` in place of `RpcError`.

    The library would retry an `RpcError`, and ignores partial successes.
    """

    def __init__(self, stub: Any, headers: Mapping[str, str]) -> None:
        self._stub = stub
        self._headers = tuple(headers.items())
        self.rejected = 0
        """Items that the endpoint rejected of the last accepted request."""

    def Export(self, request: Any, metadata: Any = None, timeout: float | None = None) -> Any:
        """Send one request, with the endpoint's headers only. Raises `RetryableError` or `PermanentError`."""
        try:
            answer = self._stub.Export(request, metadata=self._headers, timeout=timeout)
        except grpc.RpcError as error:
            raise _failure(error) from error
        self.rejected = rejected_items(answer)
        return answer


def credentials(certificate: str | None, key: str | None, chain: str | None) -> Any:
    """TLS credentials from PEM files. A `certificate` of None trusts the system's authorities."""
    return grpc.ssl_channel_credentials(*(None if path is None else _read(path) for path in (certificate, key, chain)))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _failure(error: Any) -> RetryableError | PermanentError:
    code, details = error.code().name, (error.details() or "").lower()
    # A failure before the first gRPC frame is always UNAVAILABLE; only the text distinguishes TLS from an outage.
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
    """Seconds of the status' `RetryInfo`; None without one."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            try:
                for detail in Status.FromString(value).details:
                    info = RetryInfo()
                    if detail.Unpack(info):
                        return max(0.0, float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
            except Exception:  # malformed status details
                return None
    return None
