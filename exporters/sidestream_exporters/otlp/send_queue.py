"""Queue of spans on their way to the endpoint: what waits, what was lost, and the log messages about it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from sidestream.diagnostics import error_once, info, warn, warn_once
from sidestream.errors import ExporterUnavailable
from sidestream.pipeline.health import CheckResult

from .delivery_ledger import DeliveryLedger
from .failures import PermanentError, RetryableError
from .runs import Span
from .sender import Sender
from .settings import Endpoint, Signal

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

LONGEST_WAIT = 60.0
"""Seconds for which an endpoint's wish to be left alone is granted."""


class SendQueue:
    """Queue of the requests of one batch of events, and the connection they go through.

    A batch may make several. Where one finds the endpoint away, those before it are not sent again: spans carry ids of
    their own, but a batch that is offered again is not an excuse to say everything twice.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        record: DeliveryLedger | None,
        to_batch: Callable[[Sequence[Span]], Sequence[ReadableSpan]],
    ) -> None:
        self._endpoint = endpoint
        self._to_batch = to_batch
        self._record = record
        self._sender: Sender | None = None
        self._waiting: deque[Sequence[Span]] = deque()
        self._losses: dict[str, int] = {}
        self._leave_alone_until = 0.0
        self._failing = False
        self._sent_before = 0
        self.sent = self.lost = self.shortened = 0
        """Spans that were accepted, that were not, and that were too large with all their content."""

    def put(self, requests: Iterable[Sequence[Span]]) -> None:
        """Take the requests of a new batch. What is left of another was given up, and is freed."""
        self._waiting.clear()
        self._waiting.extend(requests)
        self._losses, self._sent_before = {}, self.sent

    def send(self) -> None:
        """Send what waits. What is too large goes in halves, and a span that is so by itself without its long texts.

        Raises:
            ExporterUnavailable: the endpoint is away or asked for time.
        """
        if self._waiting and time.monotonic() < self._leave_alone_until:
            raise ExporterUnavailable(f"{self._endpoint.shown}: asked for time")
        try:
            while self._waiting:
                self._send_next()
        except ExporterUnavailable:
            raise
        except BaseException:  # the batch is lost and counted so: nothing of it is kept
            self._waiting.clear()
            raise

    def _send_next(self) -> None:
        spans = self._waiting[0]
        try:
            if self._sender is None:
                self._sender = Sender(self._endpoint, "traces")
            rejected = self._sender.send(self._to_batch(spans))
        except RetryableError as error:
            self._away(error)
            raise ExporterUnavailable(f"{self._endpoint.shown}: {error.reason}") from error
        except PermanentError as error:
            self._waiting.popleft()
            smaller = _smaller(spans) if error.too_large else ()
            self._waiting.extendleft(reversed(smaller))
            if len(smaller) == 1:
                self._shortened(error)
            elif not smaller:
                self._refused(error, len(spans))
        else:
            self._waiting.popleft()
            self.accepted(spans, min(rejected, len(spans)))

    def accepted(self, spans: Sequence[Span], rejected: int = 0) -> None:
        """The endpoint took `spans`, but for some."""
        url = self._endpoint.shown
        if self._failing:
            self._failing = False
            info("OTLP endpoint works again", endpoint=url)
        self.sent += len(spans) - rejected
        if rejected:
            self._lose("rejected", rejected)
            warn_once("OTLP endpoint rejected spans, see its log", url, endpoint=url)
        elif self._record is not None:
            self._record.note(spans)

    def losses(self, offered: int) -> dict[str, int]:
        """What of the batch counts as dropped: with all of it refused its events, else one for each span."""
        if self._losses.keys() == {"refused"} and self.sent == self._sent_before:
            return {"refused": offered}
        losses = {}
        for reason, spans in self._losses.items():
            losses[reason] = min(spans, offered)
            offered -= losses[reason]
        return {reason: count for reason, count in losses.items() if count}

    def close(self) -> None:
        if self._sender is not None:
            self._sender.close()
            self._sender = None
        if self._record is not None:
            self._record.close()

    def _away(self, error: RetryableError) -> None:
        if error.after is not None:
            self._leave_alone_until = time.monotonic() + min(error.after, LONGEST_WAIT)
        if not self._failing:
            self._failing = True
            event = "OTLP endpoint cannot take spans now, keeping events and trying again"
            warn(event, endpoint=self._endpoint.shown, reason=error.reason)

    def _shortened(self, error: PermanentError) -> None:
        self.shortened += 1
        url = self._endpoint.shown
        event = "OTLP endpoint finds spans too large, they are sent without their long texts"
        warn_once(event, url, endpoint=url, reason=error.reason, advice=error.advice)

    def _refused(self, error: PermanentError, spans: int) -> None:
        self._lose("refused", spans)
        url = self._endpoint.shown
        told = {"endpoint": url, "reason": error.reason, "advice": error.advice}
        error_once("OTLP endpoint refuses spans, they are lost", url, error.reason, **told)

    def _lose(self, reason: str, spans: int) -> None:
        self.lost += spans
        self._losses[reason] = self._losses.get(reason, 0) + spans


def _smaller(spans: Sequence[Span]) -> Sequence[Sequence[Span]]:
    """Requests that hold the same as one of `spans`, which was too large; none where it cannot be made smaller."""
    if len(spans) > 1:
        half = len(spans) // 2
        return spans[:half], spans[half:]
    short = spans[0].without_long_texts() if spans else None
    return () if short is None else ([short],)


def probe_endpoint(endpoint: Endpoint, signal: Signal) -> CheckResult:
    """Whether `endpoint` takes a request that holds nothing."""
    sender = Sender(endpoint, signal)
    try:
        sender.send([] if signal == "traces" else _no_metrics())
    except RetryableError as error:
        return CheckResult(False, "endpoint", f"{endpoint.shown} cannot be reached or is busy: {error.reason}")
    except PermanentError as error:
        return CheckResult(False, "endpoint", f"{endpoint.shown}: {error.reason}: {error.advice}")
    finally:
        sender.close()
    return CheckResult(True, "endpoint", f"{endpoint.shown} takes {signal}")


def _no_metrics() -> object:
    from opentelemetry.sdk.metrics.export import MetricsData

    return MetricsData([])
