"""Pipeline of a sidecar: records in, events out, with the guarantees of flush, close and fork.

caller's path                 worker                                                   exporters records.append(record)
──▶ assembler.feed() ──▶ events ──▶ a queue for each exporter ──▶ export(batch)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from sidestream.recording.content import ContentPolicy, Redactor
from sidestream.stats import CollectorStats, ExporterStats, SidecarStats

from .assembler import Assembler, FinishedEventsOnly
from .companions import collector_stats
from .exporter import Exporter
from .intake import Intake
from .redaction import CountedRedactor
from .subscription import Subscription
from .ticket import Ticket
from .workers import Workers


class Pipeline:
    """One worker thread for all exporters of a sidecar, plus one for each exporter that blocks.

    The caller's path touches `records` only. `Workers` does the rest.

    Args:
        exporters: Exporters, in the order of their calls; durable ones are served first.
        assembler: Makes events of records that are not events.
        max_events: Maximum number of events in each exporter's queue.
        max_bytes: Maximum size of each exporter's queue in bytes.
        redact: See `Sidecar`.
        is_recording: Whether runs are in progress, so that the worker polls.
        on_error: Receives exceptions of the assembler.
    """

    def __init__(
        self,
        exporters: Sequence[Exporter],
        *,
        assembler: Assembler | None = None,
        max_events: int,
        max_bytes: int,
        redact: Redactor | None = None,
        is_recording: Callable[[], bool] = lambda: False,
        on_error: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self.records: deque[Any] = deque()
        self._redactor = CountedRedactor(redact) if redact is not None else None
        self._subscriptions: list[Subscription] = []
        for exporter in exporters:
            name, same = exporter.name, sum(each.exporter.name == exporter.name for each in self._subscriptions)
            self._subscriptions.append(
                Subscription(
                    f"{name}-{same + 1}" if same else name,
                    exporter,
                    max_events=max_events,
                    max_bytes=max_bytes,
                    redact=self._redactor,
                )
            )
        self._intake = Intake(
            self.records, self._subscriptions, assembler or FinishedEventsOnly(), is_recording, on_error
        )
        self._workers = Workers(
            self.records, self._intake, self._subscriptions, is_recording=is_recording, on_error=on_error
        )

    # --- the caller's path ---

    def put(self, record: Any) -> None:
        """Append a finished `StreamEvent` or a record, from any thread, finalizer or signal handler."""
        self.records.append(record)
        if len(self.records) >= self._workers.mark:
            self._workers.notice()

    def wake(self) -> None:
        """Deliver the events of an ended run at once, regardless of the exporters' intervals."""
        self._workers.wake()

    def start(self) -> bool:
        """Start a worker if there is none. Returns False if no thread can be started, as at interpreter exit."""
        return self._workers.start()

    # --- interface for the sidecar ---

    def begin(self, get_stats: Callable[[], SidecarStats], report: Callable[[], None] = lambda: None) -> None:
        """Bind the exporters to the sidecar's statistics, and start eager exporters.

        `report` logs pending messages of the sidecar. Called by a worker from time to time, because logging may block.
        """
        self._workers.report = report
        for subscription in self._subscriptions:
            subscription.exporter.bind(get_stats)
        if any(subscription.exporter.eager for subscription in self._subscriptions):
            self.start()

    @property
    def spans(self) -> bool:
        """Whether any exporter sends spans."""
        return any(each.exporter.spans for each in self._subscriptions)

    @property
    def policies(self) -> list[ContentPolicy]:
        """Content policy of each exporter."""
        return [each.exporter.content for each in self._subscriptions]

    @property
    def pending_records(self) -> int:
        """Approximate number of records not yet included in the exporters' statistics; exact if 0."""
        return self._intake.pending

    @property
    def redaction_failures(self) -> int:
        """Number of texts for which the redactor failed."""
        return self._redactor.failures if self._redactor is not None else 0

    def stats(self) -> dict[str, ExporterStats]:
        """Statistics by exporter, without the events of pending records."""
        if self._workers.ended:
            self._intake.drain()
        else:
            self._workers.check_leader()
        return {each.name: each.stats() for each in self._subscriptions}

    def collector_stats(self) -> CollectorStats | None:
        """Statistics of the collector process; None without the exporter `collect`."""
        return collector_stats([each.exporter for each in self._subscriptions])

    def flush(self, timeout: float) -> dict[str, int]:
        """Deliver pending events within `timeout` seconds; returns the undelivered counts by exporter, if any."""
        deadline = time.monotonic() + timeout
        before = self._dropped()
        ticket = Ticket()
        self._workers.submit(ticket)
        self._workers.wait(ticket, self._subscriptions, lambda each: deadline)
        raw = 0 if ticket.distributed or self._workers.ended else self.pending_records - 1  # minus the ticket itself
        pending = {each.name: each.forget(ticket) + raw for each in self._subscriptions}
        return _lost(before, self._dropped(), pending)

    def close(self, timeout: float) -> dict[str, int]:
        """Deliver pending events and close every exporter within `timeout` seconds; returns the same as `flush`.

        Once the durable exporters have written everything, a blocked exporter is abandoned early, because a replay can
        deliver the rest. An exporter with an unreachable sink gets one more try.
        """
        deadline = time.monotonic() + timeout
        before = self._dropped()
        ticket = Ticket(close=True)
        self._workers.submit(ticket)
        if self._workers.is_here():  # an exporter closes its own sidecar: the worker completes the close after the call
            return {}
        durable = [each for each in self._subscriptions if each.exporter.durable]
        self._workers.wait(ticket, durable, lambda each: deadline)
        recorded = bool(durable) and all(each.closed and not each.stats().dropped for each in durable)
        self._workers.wait(
            ticket, self._subscriptions, lambda each: min(deadline, each.hangs_from()) if recorded else deadline
        )
        if not all(each.closed for each in self._subscriptions):
            self._intake.drain()
            for subscription in self._subscriptions:
                if not subscription.closed:
                    subscription.abandon()
        self._workers.end()
        return _lost(before, self._dropped(), {})

    def after_fork(self) -> None:
        """Discard the parent's events in a forked child."""
        closed = self._workers.ended or any(each.closed for each in self._subscriptions)
        self._intake.reset()
        self._workers.reset(ended=closed)
        if self._redactor is not None:
            self._redactor.after_fork()
        for subscription in self._subscriptions:
            subscription.after_fork(closed=closed)

    def _dropped(self) -> dict[str, int]:
        return {each.name: sum(each.stats().dropped.values()) for each in self._subscriptions}


def _lost(before: dict[str, int], after: dict[str, int], pending: dict[str, int]) -> dict[str, int]:
    lost = {name: after[name] - before[name] + pending.get(name, 0) for name in after}
    return {name: count for name, count in lost.items() if count}
