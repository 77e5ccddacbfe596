"""Delivery of events from a log to one exporter: in order, with retries while the exporter is unavailable, and counted.

In an observed program, the pipeline delivers and drops events that do not fit. Here no event has to be dropped: the log
keeps them, and is read no faster than the exporter accepts events.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from sidestream.diagnostics import warn_once
from sidestream.errors import ExporterUnavailable
from sidestream.events import StreamEvent
from sidestream.pipeline.backoff import Backoff
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.yielding import hurrying
from sidestream.recording.content import apply_policy
from sidestream.stats import ExporterStats


class Delivery:
    """Delivery of events to one exporter, with retries.

    Args:
        exporter: called only from the thread that calls this object.
        stop: ends every wait when another thread sets it.
        patience: seconds to wait for an unavailable exporter; None waits forever.
        backoff: seconds of the first and the longest pause between retries; defaults to those of the pipeline.
        on_wait: called before each pause of a retry.
    """

    def __init__(
        self,
        exporter: Exporter,
        *,
        stop: threading.Event,
        patience: float | None = None,
        backoff: tuple[float, float] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> None:
        self.exporter = exporter
        self._stop = stop
        self._patience = patience
        self._backoff = Backoff(*backoff) if backoff else Backoff()
        self._on_wait = on_wait
        self._started = False
        self._exported = self._pending = self._failures = 0
        self._dropped: dict[str, int] = {}
        self._busy_since: float | None = None
        self._last_success: float | None = None
        self._last_error: str | None = None
        self.closed = False

    @property
    def stopped(self) -> bool:
        """Whether `stop` is set."""
        return self._stop.is_set()

    def start(self) -> bool:
        """Start the exporter, once. False if the exporter stayed unavailable."""
        if not self._started:
            self._started = self._retry(self.exporter.start)
        return self._started

    def deliver(self, events: Sequence[StreamEvent]) -> bool:
        """Export `events`, except those of event types that the exporter skips.

        Returns False if the exporter stayed unavailable for `patience` seconds, or `stop` was set. The rest is then
        pending.
        """
        exporter = self.exporter
        wanted = [event for event in events if event.event_type not in exporter.skip]
        self._pending = len(wanted)
        for first in range(0, len(wanted), exporter.batch):
            batch = [apply_policy(event, exporter.content, None) for event in wanted[first : first + exporter.batch]]
            if not self._retry(lambda batch=batch: self._export(batch)):  # type: ignore[misc]
                return False
        return True

    def flush(self) -> None:
        """Flush the exporter; a failure is not retried."""
        if self._started:
            self._log_errors(self.exporter.flush)

    def close(self) -> None:
        """Flush and close the exporter."""
        if self._started:
            self._log_errors(self.exporter.flush)
            self._log_errors(self.exporter.close)
        self.closed = True

    def stats(self) -> ExporterStats:
        """Statistics, from any thread. Events accepted by an exporter that has not started count as pending."""
        dropped, exported, pending, busy = dict(self._dropped), self._exported, self._pending, self._busy_since
        if not self._started:
            exported, pending = 0, pending + exported
        return ExporterStats(
            seen=exported + sum(dropped.values()) + pending,
            exported=exported,
            dropped=dropped,
            pending=pending,
            failures=self._failures,
            state="closed" if self.closed else "failing" if self._backoff.failures else "ok",
            busy_seconds=None if busy is None else time.monotonic() - busy,
            last_success=self._last_success,
            last_error=self._last_error,
        )

    def _export(self, batch: Sequence[StreamEvent]) -> None:
        try:
            with hurrying(after=0.0):  # no agent needs the GIL here
                lost = dict(self.exporter.export(batch) or {})
        except ExporterUnavailable:
            raise
        except Exception as error:
            self._log_failure(error)
            lost = {"error": len(batch)}
        else:
            self._last_success = time.time()
        self._pending -= len(batch)
        self._exported += len(batch) - sum(lost.values())
        for reason, count in lost.items():
            self._dropped[reason] = self._dropped.get(reason, 0) + count

    def _retry(self, call: Callable[[], None]) -> bool:
        """Retry `call` while the exporter is unavailable. False if patience ran out or `stop` was set."""
        begun = time.monotonic()
        while True:
            try:
                self._busy_since = time.monotonic()
                call()
                self._backoff.succeed()
                return True
            except ExporterUnavailable as error:
                self._failures += 1
                self._backoff.fail()
                self._last_error = type(error).__qualname__
            finally:
                self._busy_since = None
            pause = self._backoff.delay()
            if self._patience is not None:
                left = begun + self._patience - time.monotonic()
                if left <= 0:
                    return False
                pause = min(pause, left)
            if self._on_wait is not None:
                self._on_wait()
            if self._stop.wait(pause):
                return False

    def _log_errors(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._log_failure(error)

    def _log_failure(self, error: Exception) -> None:
        self._failures += 1
        self._last_error = type(error).__qualname__
        name = self.exporter.name
        warn_once("exporter failed", name, self._last_error, exporter=name, exception=self._last_error)
