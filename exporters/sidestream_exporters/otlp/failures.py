"""Failures of one export request, with advice for the log message.

Which failures are retryable follows the OTLP specification (https://opentelemetry.io/docs/specs/otlp/#failures).
"""

from __future__ import annotations


class RetryableError(Exception):
    """Failure that may pass: the same request may be sent again.

    Args:
        reason: Cause, for log messages.
        after: Seconds to wait before the next attempt; None if the endpoint requested no delay.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class PermanentError(Exception):
    """Failure that the same request would meet again.

    Args:
        reason: Status or error of the endpoint; never text from the server.
        advice: Remedy, for log messages.
        too_large: Whether a smaller request may succeed.
    """

    def __init__(self, reason: str, advice: str, *, too_large: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        self.too_large = too_large


class AttemptFailed(BaseException):
    """Carrier of a failure through the library's HTTP exporter.

    Not an `Exception`: the library's retry loop would catch one, sleep, retry and log. The pipeline retries instead,
    since it keeps the batch.
    """

    def __init__(self, failure: RetryableError | PermanentError) -> None:
        super().__init__(failure.reason)
        self.failure = failure


CREDENTIALS = "check the credentials in OTEL_EXPORTER_OTLP_HEADERS"
TOO_LARGE = "one request was too large: let less content out, or raise the server's limit"
NOT_OTLP = "something else answers there: check host, port and protocol (4318 is http/protobuf, 4317 is grpc)"
TLS = "check the certificates (OTEL_EXPORTER_OTLP_CERTIFICATE), and http:// against https:// in the address"
