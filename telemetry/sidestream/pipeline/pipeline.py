"""From the runs to the exporters: records in, events out, and the promises about flush, close and fork.

caller's path                 worker                                                   exporters
records.append(record) ──▶ assembler.feed() ──▶ events ──▶ a queue for each exporter ──▶ export(batch)
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
    """One worker thread for all exporters of a sidecar, and one more for each exporter that hangs.

    `records` is all that the caller's path touches. The rest is done by `Workers`.

    Args:
        exporters: Where events go, in the order of their calls; durable ones are served first.
        assembler: Makes events of records that are none.
        max_events: Bound of each exporter's queue.
        max_bytes: The same in bytes.
        redact: See `Sidecar`.
        is_recording: Whether runs are in progress, so that the worker polls.
        on_error: Takes what the assembler raises.
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
        """Take a finished `StreamEvent` or a record for the assembler, from any thread, finalizer or signal handler."""
        self.records.append(record)
        if len(self.records) >= self._workers.mark:
            self._workers.notice()

    def wake(self) -> None:
        """A run has ended: have all of it delivered at once, whatever the intervals of the exporters."""
        self._workers.wake()

    def start(self) -> bool:
        """Have a worker. False where no thread can be started: the interpreter is going down, or the system is full."""
        return self._workers.start()

    # --- queries of the sidecar ---

    def begin(self, get_stats: Callable[[], SidecarStats], report: Callable[[], None] = lambda: None) -> None:
        """The sidecar stands: exporters may read its statistics, and those that do not wait for events start.

        `report` logs the sidecar's pending messages. Called by a worker now and then, for logging may block.
        """
        self._workers.report = report
        for subscription in self._subscriptions:
            subscription.exporter.bind(get_stats)
        if any(subscription.exporter.eager for subscription in self._subscriptions):
            self.start()

    @property
    def spans(self) -> bool:
        """Whether an exporter exports spans."""
        return any(each.exporter.spans for each in self._subscriptions)

    @property
    def policies(self) -> list[ContentPolicy]:
        """The content policy of each exporter: whether any exporter takes content at all."""
        return [each.exporter.content for each in self._subscriptions]

    @property
    def pending_records(self) -> int:
        """Records whose events are in no exporter's statistics yet, about; 0 only where there are none."""
        return self._intake.pending

    @property
    def redaction_failures(self) -> int:
        """Texts that the redactor failed on."""
        return self._redactor.failures if self._redactor is not None else 0

    def stats(self) -> dict[str, ExporterStats]:
        """The statistics of each exporter, without what still waits in `records`."""
        if self._workers.ended:
            self._intake.drain()
        else:
            self._workers.check_leader()
        return {each.name: each.stats() for each in self._subscriptions}

    def collector_stats(self) -> CollectorStats | None:
        """What a collector beside the program has taken over; None where there is none."""
        return collector_stats([each.exporter for each in self._subscriptions])

    def flush(self, timeout: float) -> dict[str, int]:
        """Deliver what has been seen, within `timeout` seconds; returns by exporter what was not, empty if all was."""
        deadline = time.monotonic() + timeout
        before = self._dropped()
        ticket = Ticket()
        self._workers.ask(ticket)
        self._workers.wait(ticket, self._subscriptions, lambda each: deadline)
        raw = 0 if ticket.passed_on or self._workers.ended else self.pending_records - 1  # without the ticket
        pending = {each.name: each.forget(ticket) + raw for each in self._subscriptions}
        return _lost(before, self._dropped(), pending)

    def close(self, timeout: float) -> dict[str, int]:
        """Deliver what is pending, close every exporter, within `timeout` seconds; returns as `flush` does.

        Where durable exporters have everything, one that hangs is given up early: a replay brings the rest. One whose
        sink is away gets one more try: a program that ends does not wait for the outage to do the same.
        """
        deadline = time.monotonic() + timeout
        before = self._dropped()
        ticket = Ticket(close=True)
        self._workers.ask(ticket)
        if self._workers.is_here():  # an exporter closes its own sidecar: the worker does it when the call is over
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
        """In a forked child: the parent's events are the parent's to deliver."""
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
