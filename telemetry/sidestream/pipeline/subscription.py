"""Subscription of one exporter: queue, calls, circuit breaker, and statistics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue

from sidestream.diagnostics import debug_traceback, error_once, info, warn, warn_once
from sidestream.errors import ExporterUnavailable
from sidestream.recording.content import Redactor, apply_policy
from sidestream.stats import ExporterStats

from .accounting import Counts
from .backoff import Backoff
from .exporter import Exporter
from .queue import EventQueue, Item
from .ticket import Ticket

BATCH = 1_024
"""Maximum number of events in a batch."""
FAILURES_TO_OPEN = 5
"""Number of consecutive failures that opens the circuit breaker."""
BACKOFF = (0.25, 30.0)
"""Shortest and longest pause in seconds before a failing exporter is retried."""
GRACE_SECONDS = 0.2
"""Seconds granted to every exporter on close, even if a durable one has written everything."""
HUNG_SECONDS = 1.0
"""Seconds after which, on such a close, a call that has not returned is considered hung."""


class Subscription:
    """One exporter of a pipeline: queue, counts, failures and optional thread.

    Workers call `put`, `request` and `serve`, the last from one thread at a time. Threads waiting for a flush or close
    call `forget` and `abandon`, possibly in a signal handler that has interrupted the same call: the lock is therefore
    reentrant, and these methods are idempotent.
    """

    def __init__(
        self, name: str, exporter: Exporter, *, max_events: int, max_bytes: int, redact: Redactor | None
    ) -> None:
        self.name = name
        self.exporter = exporter
        self._skip = frozenset(exporter.skip)
        self._bounds = (max_events, max_bytes)
        self._redact = redact
        self._reset(closed=False)

    def _reset(self, *, closed: bool) -> None:
        """Reset to an empty queue and new statistics."""
        self.dedicated = self.exporter.threaded
        """Whether a dedicated thread serves the exporter."""
        self.has_thread = False
        """Whether the dedicated thread has been started."""
        self._wakeup: SimpleQueue[None] = SimpleQueue()
        """Wakes the dedicated thread."""
        self._idle = False
        self.closed = self._closing = self.finished = closed
        self.busy_since: float | None = None
        """Monotonic start time of the exporter's current call; None between calls."""
        self._lock = threading.RLock()
        self._queue = EventQueue(*self._bounds)
        self._in_hand: list[Item] = []
        self._counts = Counts()
        self._last_number = 0
        self._reported: dict[str, int] = {}
        self._raised: dict[str, str] = {}
        """Log fields for the exporter's last error: exception type, and how to print the traceback."""
        self._tickets: list[tuple[int, Ticket]] = []
        self._started = self._hurry = False
        self._backoff = Backoff(*BACKOFF)
        self._failures = 0
        self._due = self._failed_at = self._retry_at = 0.0
        self._returned_at = self._close_requested_at = 0.0
        self._last_success: float | None = None
        self._last_error: str | None = None

    # --- called by the workers ---

    def put(self, items: Sequence[Item]) -> None:
        """Queue `items`, except for types that the exporter skips."""
        skip = self._skip
        wanted = [item for item in items if item[2].event_type not in skip] if skip else items
        if not wanted:
            return
        with self._lock:
            if self._closing:
                self._counts = self._counts.drop("closed", len(wanted))
                return
            if not self._queue.events:
                self._due = time.monotonic() + self.exporter.interval
            put = self._queue.put
            dropped = 0
            for item in wanted:
                dropped += put(item)
            self._last_number = wanted[-1][0]
            self._counts = self._counts.drop("overflow", dropped)._replace(pending=self._queue.events)

    def request(self, ticket: Ticket) -> None:
        """Complete `ticket` once all events so far are delivered."""
        with self._lock:
            if ticket.close:
                self._close_requested_at = time.monotonic()
                self._closing = True
            if self.closed:
                ticket.done.put(None)
            else:
                self._tickets.append((self._last_number, ticket))

    def hurry(self) -> None:
        """Deliver queued events at the next call of `serve`, regardless of the exporter's interval."""
        self._hurry = self._queue.events > 0

    def has_work(self) -> bool:
        """Whether `serve` has something to do, now or later."""
        return bool(
            self._queue.events
            or self._tickets
            or (self._closing and not self.finished)
            or (self.exporter.eager and not self._started)
        )

    def wake_thread(self) -> None:
        """Wake the dedicated thread if it would not wake in time by itself."""
        urgent = self._closing or self._tickets or self._hurry or self._queue.is_half_full()
        if (urgent or self._idle) and self._wakeup.empty():
            self._wakeup.put(None)

    # --- called by waiting threads ---

    def is_done(self, ticket: Ticket) -> bool:
        """Whether `ticket` is completed."""
        return self.closed or (
            not ticket.close and ticket.distributed and all(each is not ticket for _, each in self._tickets)
        )

    def forget(self, ticket: Ticket) -> int:
        """Cancel `ticket`; returns the number of its events that are not delivered."""
        with self._lock:
            if not ticket.distributed:
                return self._counts.pending
            numbers = [number for number, each in self._tickets if each is ticket]
            self._tickets = [entry for entry in self._tickets if entry[1] is not ticket]
            if not numbers:
                return 0
            return sum(item[0] <= numbers[0] for item in self._in_hand) + self._queue.count_until(numbers[0])

    def hangs_from(self) -> float:
        """Monotonic time from which the exporter's current call is considered hung."""
        begun = self.busy_since or max(self._returned_at, self._close_requested_at)
        return max(
            self._close_requested_at + GRACE_SECONDS,
            begun + (GRACE_SECONDS if self._backoff.failures else HUNG_SECONDS),
        )

    def abandon(self) -> None:
        """Drop all pending events, and ignore the result of a call in progress."""
        with self._lock:
            self._closing = self.closed = True
            counts = self._counts
            self._counts = counts.drop("shutdown", counts.pending)._replace(pending=0)
            self._queue = EventQueue(*self._bounds)
            self._in_hand = []
            tickets, self._tickets = self._tickets, []
        for _, ticket in tickets:
            ticket.done.put(None)
        self._wakeup.put(None)

    def stats(self) -> ExporterStats:
        """Return current statistics. Takes no lock."""
        counts, busy = self._counts, self.busy_since
        return ExporterStats(
            seen=counts.exported + sum(counts.dropped.values()) + counts.pending,
            exported=counts.exported,
            dropped=dict(counts.dropped),
            pending=counts.pending,
            failures=self._failures,
            state="closed" if self.closed else "failing" if self._backoff.failures else "ok",
            busy_seconds=None if busy is None else time.monotonic() - busy,
            last_success=self._last_success,
            last_error=self._last_error,
        )

    def report(self, *, final: bool = False) -> None:
        """Log the first drop for each reason; with `final`, also the updated totals."""
        for reason, count in self._counts.dropped.items():
            logged = self._reported.get(reason)
            if logged is None or (final and count > logged):
                self._reported[reason] = count
                why = self._raised if reason == "error" else {}
                warn("events dropped", exporter=self.name, reason=reason, so_far=count, **why)

    def after_fork(self, *, closed: bool) -> None:
        """Reset in a forked child."""
        self._reset(closed=closed)
        try:
            self.exporter.after_fork()
        except Exception as error:
            kind = type(error).__qualname__
            error_once("exporter failed after fork", self.name, exporter=self.name, exception=kind)

    # --- calls of the exporter ---

    def work(self) -> None:
        """Serve the exporter on a dedicated thread, until it is closed."""
        while not self.finished:
            self._idle = False
            due = self.serve()
            self._idle = due is None
            if not self.finished and not (self._idle and self.has_work()):
                with suppress(Empty):
                    self._wakeup.get(timeout=None if due is None else max(0.0, due - time.monotonic()))

    def serve(self) -> float | None:
        """Do the work that is due, at most one batch. Blocks as long as the exporter's calls.

        Returns the monotonic time at which more work is due; None if there is none before new events.
        """
        if self.closed:
            self._finish()
            return None
        hurry, self._hurry = self._hurry or bool(self._tickets), False
        if not self._closing and (pause := self._pause()) is not None:
            return pause
        now = time.monotonic()
        if self._queue.events and not (self._closing or hurry or now >= self._due or self._queue.is_half_full()):
            return self._due
        delivered = self._start_early() and self._deliver()
        self._answer()
        if self._closing and not (delivered and self._queue.events):
            self._finish()  # an unreachable exporter has had its last try
            return None
        if not delivered:
            return self._pause() or now
        if self._queue.events:
            self._hurry |= hurry
            return now
        return None

    def _pause(self) -> float | None:
        """Monotonic end of the circuit breaker's pause, shortened by a flush; None if there is no pause."""
        if self._tickets:
            self._retry_at = min(self._retry_at, self._failed_at + self._backoff.first)
        return self._retry_at if time.monotonic() < self._retry_at else None

    def _start_early(self) -> bool:
        """Start an eager exporter. Returns False if it cannot start yet."""
        if self._started or not self.exporter.eager:
            return True
        try:
            with self._call():
                self.exporter.start()
            self._started = True
        except BaseException as error:
            self._note_failure(error)
            self._pause_exporter()
        return self._started

    def _deliver(self) -> bool:
        """Deliver one batch, if any. Returns False if the exporter must be paused."""
        exporter, batch = self.exporter, self._take()
        if not batch:
            return True
        try:
            with self._call():
                if not self._started:
                    exporter.start()
                    self._started = True
                content, redact = exporter.content, self._redact
                events = [apply_policy(event, content, redact) for _, _, event in batch]
                lost = _losses(exporter.export(events), len(batch))
        except ExporterUnavailable as error:
            self._note_failure(error)
            self._pause_exporter()
            return False
        except BaseException as error:  # a worker survives any exception of an exporter, including SystemExit
            self._raised = {"exception": type(error).__qualname__, "traceback": "SIDESTREAM_DEBUG=1"}
            self._settle(batch, {"error": len(batch)})
            self._note_failure(error)
            if self._backoff.failures < FAILURES_TO_OPEN:
                return True
            self._pause_exporter()
            return False
        self._last_success = time.time()
        self._settle(batch, lost)
        if self._backoff.succeed() >= FAILURES_TO_OPEN:
            info("exporter works again", exporter=self.name)
        return True

    def _take(self) -> list[Item]:
        with self._lock:
            if not self._in_hand and self._queue.events:  # otherwise retry the batch of an unavailable exporter
                self._in_hand = self._queue.take(BATCH)
            return self._in_hand

    def _settle(self, batch: Sequence[Item], lost: Mapping[str, int]) -> None:
        with self._lock:
            if self.closed:
                return  # abandoned meanwhile, and already counted as dropped
            self._in_hand = []
            self._queue.release(batch)
            counts = self._counts
            for reason, count in lost.items():
                counts = counts.drop(reason, count)
            exported = counts.exported + len(batch) - sum(lost.values())
            self._counts = Counts(exported, self._queue.events, counts.dropped)

    def _answer(self) -> None:
        """Flush the exporter, and complete the tickets whose events are all delivered."""
        with self._lock:
            oldest = self._in_hand[0][0] if self._in_hand else self._queue.oldest()
            ready = [entry for entry in self._tickets if not entry[1].close and (oldest is None or oldest > entry[0])]
        if ready:
            self._guarded(self.exporter.flush)
            with self._lock:
                self._tickets = [entry for entry in self._tickets if entry not in ready]
            for _, ticket in ready:
                ticket.done.put(None)

    def _finish(self) -> None:
        """Flush and close the exporter, and drop undelivered events. Idempotent."""
        if not self.finished:
            self._guarded(self.exporter.flush)
            self._guarded(self.exporter.close)
            self.abandon()
            self.finished = True

    def _note_failure(self, error: BaseException) -> None:
        self._failures += 1
        self._backoff.fail()
        self._last_error = type(error).__qualname__
        if not isinstance(error, ExporterUnavailable):
            debug_traceback(error)
        if self._backoff.failures == FAILURES_TO_OPEN:
            warn("exporter keeps failing, pausing it", exporter=self.name, exception=self._last_error)

    def _pause_exporter(self) -> None:
        self._failed_at = time.monotonic()
        self._retry_at = self._failed_at + self._backoff.delay()

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            if self._started:
                with self._call():
                    call()
        except BaseException as error:
            self._failures += 1
            self._last_error = type(error).__qualname__
            debug_traceback(error)
            warn_once("exporter failed", self.name, exporter=self.name, exception=self._last_error)

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Track the start and end of an exporter's call."""
        self.busy_since = time.monotonic()
        try:
            yield
        finally:
            self._returned_at, self.busy_since = time.monotonic(), None


def _losses(reported: Mapping[str, int] | None, offered: int) -> Mapping[str, int]:
    """Validate the losses reported by an exporter. Raises `ValueError` if they are implausible."""
    lost = dict(reported or {})
    if any(type(count) is not int or count < 0 for count in lost.values()) or sum(lost.values()) > offered:
        raise ValueError(f"export() reported {lost} as lost of {offered} events")
    return lost
