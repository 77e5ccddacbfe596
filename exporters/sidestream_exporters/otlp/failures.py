"""Failures of one export request, and what a person can do about them.

What may be tried again, and when, is the protocol's own rule (https://opentelemetry.io/docs/specs/otlp/#failures).
"""

from __future__ import annotations


class RetryableError(Exception):
    """Endpoint that cannot take a request now. `after`: seconds it asked to be left alone, if it did."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class PermanentError(Exception):
    """Endpoint that will never take a request.

    Args:
        reason: what the endpoint answered; holds no text of the server's own.
        advice: what a person can do.
        too_large: whether a smaller request may pass.
    """

    def __init__(self, reason: str, advice: str, *, too_large: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        self.too_large = too_large


class AttemptFailed(BaseException):
    """Carrier of a failure out of the library's HTTP exporter.

    The library's loop waits, tries again and logs for whatever is an `Exception`; the pipeline does that better, since
    it keeps the batch.
    """

    def __init__(self, failure: RetryableError | PermanentError) -> None:
        super().__init__(failure.reason)
        self.failure = failure


CREDENTIALS = "check the credentials in OTEL_EXPORTER_OTLP_HEADERS"
TOO_LARGE = "one request was too large: let less content out, or raise the server's limit"
NOT_OTLP = "something else answers there: check host, port and protocol (4318 is http/protobuf, 4317 is grpc)"
TLS = "check the certificates (OTEL_EXPORTER_OTLP_CERTIFICATE), and http:// against https:// in the address"
