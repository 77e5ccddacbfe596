"""Queue of export requests: sends them, halves oversized ones, counts losses and logs outages."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic

from sidestream.diagnostics import error_once, info, warn, warn_once
from sidestream.errors import ExporterUnavailable
from sidestream.pipeline.health import CheckResult

from .delivery_ledger import DeliveryLedger
from .failures import PermanentError, RetryableError
from .runs import ItemT
from .sender import Sender
from .settings import Endpoint, Signal

LONGEST_WAIT = 60.0
"""Longest delay in seconds that is granted to an endpoint (`Retry-After`)."""


class SendQueue(Generic[ItemT]):
    """Queue of one batch's export requests for one signal, and the connection of the exporter.

    A batch of events makes one or more requests. After an outage in the middle, delivered requests of the batch are not
    sent again.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        record: DeliveryLedger | None,
        to_batch: Callable[[Sequence[ItemT]], Sequence[Any]],
        signal: Signal = "traces",
    ) -> None:
        self._endpoint = endpoint
        self._signal = signal
        self._noun = "spans" if signal == "traces" else "scores"
        self._to_batch = to_batch
        self._record = record
        self._sender: Sender | None = None
        self._waiting: deque[Sequence[ItemT]] = deque()
        self._losses: dict[str, int] = {}
        self._retry_at = 0.0
        self._failing = False
        self._sent_before = 0
        self.sent = self.lost = self.shortened = 0
        """Items (spans, or scores) accepted; rejected; sent without long texts because they were too large."""

    def put(self, requests: Iterable[Sequence[ItemT]]) -> None:
        """Queue the requests of a new batch. Drops the rest of an earlier batch, which the pipeline gave up."""
        self._waiting.clear()
        self._waiting.extend(requests)
        self._losses, self._sent_before = {}, self.sent

    def send(self) -> None:
        """Send the queued requests. An oversized request is halved; an oversized single span loses its long texts.

        Raises:
            ExporterUnavailable: The endpoint cannot be reached, or requested a delay.
        """
        if self._waiting and time.monotonic() < self._retry_at:
            raise ExporterUnavailable(f"{self._endpoint.shown}: requested a delay")
        try:
            while self._waiting:
                self._send_next()
        except ExporterUnavailable:
            raise
        except BaseException:  # the pipeline counts the whole batch as lost: its rest must not be sent later
            self._waiting.clear()
            raise

    def _send_next(self) -> None:
        spans = self._waiting[0]
        try:
            if self._sender is None:
                self._sender = Sender(self._endpoint, self._signal)
            rejected = self._sender.send(self._to_batch(spans))
        except RetryableError as error:
            self._on_retryable(error)
            raise ExporterUnavailable(f"{self._endpoint.shown}: {error.reason}") from error
        except PermanentError as error:
            self._waiting.popleft()
            smaller = _smaller(spans) if error.too_large else ()
            self._waiting.extendleft(reversed(smaller))
            if len(smaller) == 1:
                self._on_shortened(error)
            elif not smaller:
                self._on_refused(error, len(spans))
        else:
            self._waiting.popleft()
            self.accepted(spans, min(rejected, len(spans)))

    def accepted(self, spans: Sequence[ItemT], rejected: int = 0) -> None:
        """Count `spans` as accepted, except the `rejected` ones; an accepted request goes into the ledger."""
        url = self._endpoint.shown
        if self._failing:
            self._failing = False
            info("OTLP endpoint works again", endpoint=url)
        self.sent += len(spans) - rejected
        if rejected:
            self._count_lost("rejected", rejected)
            warn_once(f"OTLP endpoint rejected {self._noun}, see its log", url, endpoint=url)
        elif self._record is not None:
            self._record.note(spans)

    def losses(self, offered: int) -> dict[str, int]:
        """Dropped events of the batch, by reason: all `offered` events if every span was refused, else one per span."""
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

    def _on_retryable(self, error: RetryableError) -> None:
        if error.after is not None:
            self._retry_at = time.monotonic() + min(error.after, LONGEST_WAIT)
        if not self._failing:
            self._failing = True
            event = f"OTLP endpoint cannot take {self._noun} now, keeping events and trying again"
            warn(event, endpoint=self._endpoint.shown, reason=error.reason)

    def _on_shortened(self, error: PermanentError) -> None:
        self.shortened += 1
        url = self._endpoint.shown
        event = f"OTLP endpoint finds {self._noun} too large, they are sent without their long texts"
        warn_once(event, url, endpoint=url, reason=error.reason, advice=error.advice)

    def _on_refused(self, error: PermanentError, spans: int) -> None:
        self._count_lost("refused", spans)
        url = self._endpoint.shown
        advice = error.advice
        if self._signal == "logs" and not error.too_large:
            advice = f"{advice}; for a back end that takes no logs, set scores=false"
        fields = {"endpoint": url, "reason": error.reason, "advice": advice}
        error_once(f"OTLP endpoint refuses {self._noun}, they are lost", url, error.reason, **fields)

    def _count_lost(self, reason: str, spans: int) -> None:
        self.lost += spans
        self._losses[reason] = self._losses.get(reason, 0) + spans


def _smaller(spans: Sequence[ItemT]) -> Sequence[Sequence[ItemT]]:
    """Smaller requests in place of one with `spans`: halves, or a single span without long texts; empty if neither."""
    if len(spans) > 1:
        half = len(spans) // 2
        return spans[:half], spans[half:]
    short = spans[0].without_long_texts() if spans else None
    return () if short is None else ([short],)


def probe_endpoint(endpoint: Endpoint, signal: Signal) -> CheckResult:
    """Health check of `endpoint`, by a request without spans or data points."""
    sender = Sender(endpoint, signal)
    try:
        sender.send(_no_metrics() if signal == "metrics" else [])
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
