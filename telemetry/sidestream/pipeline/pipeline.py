"""From the runs to the exporters: records in, events out, and the promises about flush, close and fork.

caller's path                 worker                                                   exporters
records.append(record) ──▶ assembler.feed() ──▶ events ──▶ a queue for each exporter ──▶ export(batch)
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from typing import Any

from sidestream.recording.content import ContentPolicy, Redactor
from sidestream.stats import ExporterStats, SidecarStats

from .assembler import Assembler, FinishedEventsOnly
from .exporter import Exporter
from .intake import Intake
from .redaction import CountedRedactor
from .subscription import Subscription, Ticket

POLL_SECONDS = 0.1
"""Longest pause between two looks at the records while runs are in progress."""
LINGER_SECONDS = 1.0
"""Seconds without a record or a run after which the worker sleeps until it is woken."""
PROMPT_SECONDS = 0.01
"""Shortest time between two rounds: the ends of many runs within it are delivered together."""
BACKLOG = 1_000
"""Waiting records at which a worker that polls is woken."""
HANG_SECONDS = 0.1
"""Seconds that an exporter's call may hold up the other exporters, once someone waits for them."""
REPORT_SECONDS = 0.5
"""For how long a close waits for what there is to say: stderr may be a pipe that nobody reads."""


class Pipeline:
    """One worker thread for all exporters of a sidecar, and one more for each exporter that hangs.

    `records` is all that the caller's path touches. The rest belongs to the worker that leads: it takes the records,
    makes events of them, and serves one exporter after the other. A second thread stands by. When someone who waits
    finds that the leader is held up by an exporter's call, the second thread leads from then on, and the first stays
    with that exporter for good. Exporters that are `threaded` have a thread of their own from the start.

    The garbage collector ends abandoned runs, and signal handlers end programs, between any two bytecodes of a thread.
    So what they call takes no lock that the interrupted code may hold: it appends to `records` and rings bells.

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
        self._served = sorted(self._subscriptions, key=lambda each: not each.exporter.durable)
        self._intake = Intake(
            self.records, self._subscriptions, assembler or FinishedEventsOnly(), is_recording, on_error
        )
        self._is_recording = is_recording
        self._on_error = on_error
        self._report: Callable[[], None] = lambda: None
        self._poll = max(0.001, min([POLL_SECONDS, *(exporter.interval for exporter in exporters)]))
        self._reset(ended=not exporters)

    def _reset(self, *, ended: bool) -> None:
        self._intake.reset()
        self.mark = 1
        """Number of waiting records at which `put` wakes a worker."""
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self._role = threading.Lock()
        """Held, by workers alone, while the leader changes."""
        self._leader: object = None
        self._serving: Subscription | None = None
        """Whose exporter the leader is calling."""
        self._saying_since: float | None = None
        """When (monotonic) the leader began to say something."""
        self._bell: SimpleQueue[None] = SimpleQueue()
        """Wakes the leader. `SimpleQueue`, since a finalizer or signal handler may ring it in the middle of a wait."""
        self._stand_by_bell: SimpleQueue[float] = SimpleQueue()
        """Wakes the thread that stands by, with the seconds that the leader may be held up."""
        self._said: SimpleQueue[None] = SimpleQueue()
        self._hurry = self._asked = False
        self._ended = ended
        """Whether every exporter is closed, so that records which come now are counted and no more."""
        self._over = ended
        """Whether the last things are said."""
        self._round_at = 0.0

    # --- the caller's path ---

    def put(self, record: Any) -> None:
        """Take a finished `StreamEvent` or a record for the assembler, from any thread, finalizer or signal handler."""
        self.records.append(record)
        if len(self.records) >= self.mark:
            self.notice()

    def notice(self) -> None:
        """Have the records taken before the worker looks by itself: the worker sleeps, or is behind."""
        if self._ended:
            self._intake.drain()
            return
        self.mark = sys.maxsize  # one bell is enough until a worker has been here
        if self.start():
            self._ring()

    def wake(self) -> None:
        """A run has ended: have all of it delivered at once, whatever the intervals of the exporters."""
        if not (self._hurry or self._ended):
            self._hurry = True
            self._ring()

    def _ring(self) -> None:
        self._bell.put(None)
        self._check_leader()

    def _check_leader(self, patience: float = HANG_SECONDS) -> None:
        """Have another thread lead, if the leader is held up for more than `patience` seconds."""
        if self._serving is not None or self._saying_since is not None:
            self._stand_by_bell.put(patience)

    # --- what the sidecar asks ---

    def begin(self, get_stats: Callable[[], SidecarStats], report: Callable[[], None] = lambda: None) -> None:
        """The sidecar stands: exporters may read its statistics, and those that do not wait for events start.

        `report` logs what the sidecar has to say. A worker calls it now and then, for logging may block.
        """
        self._report = report
        for subscription in self._subscriptions:
            subscription.exporter.bind(get_stats)
        if any(subscription.exporter.eager for subscription in self._subscriptions):
            self.start()

    def start(self) -> bool:
        """Have a worker. False where no thread can be started: the interpreter is going down, or the system is full."""
        if not self._threads and self._starting.acquire(blocking=False):
            try:
                if not self._threads:
                    self._start_thread(self._begin_to_lead)
            finally:
                self._starting.release()
        return bool(self._threads)

    @property
    def spans(self) -> bool:
        """Whether an exporter exports spans."""
        return any(each.exporter.spans for each in self._subscriptions)

    @property
    def policies(self) -> list[ContentPolicy]:
        """The content policy of each exporter: whether anyone wants content at all."""
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
        if self._ended:
            self._intake.drain()
        else:
            self._check_leader()
        return {each.name: each.stats() for each in self._subscriptions}

    def flush(self, timeout: float) -> dict[str, int]:
        """Deliver what has been seen, within `timeout` seconds; returns by exporter what was not, empty if all was."""
        deadline = time.monotonic() + timeout
        before = self._dropped()
        ticket = Ticket()
        self._ask(ticket)
        self._wait(ticket, self._subscriptions, lambda each: deadline)
        raw = 0 if ticket.passed_on or self._ended else self.pending_records - 1  # without the ticket
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
        self._ask(ticket)
        if self._is_worker():  # an exporter closes its own sidecar: the worker does it when the call is over
            return {}
        durable = [each for each in self._subscriptions if each.exporter.durable]
        self._wait(ticket, durable, lambda each: deadline)
        recorded = bool(durable) and all(each.closed and not each.stats().dropped for each in durable)
        self._wait(ticket, self._subscriptions, lambda each: min(deadline, each.hangs_from()) if recorded else deadline)
        if not all(each.closed for each in self._subscriptions):
            self._intake.drain()
            for subscription in self._subscriptions:
                if not subscription.closed:
                    subscription.abandon()
        self._end()
        return _lost(before, self._dropped(), {})

    def after_fork(self) -> None:
        """In a forked child: the parent's events are the parent's to deliver."""
        closed = self._ended or any(each.closed for each in self._subscriptions)
        self._reset(ended=closed)
        if self._redactor is not None:
            self._redactor.after_fork()
        for subscription in self._subscriptions:
            subscription.after_fork(closed=closed)

    def _dropped(self) -> dict[str, int]:
        return {each.name: sum(each.stats().dropped.values()) for each in self._subscriptions}

    def _ask(self, ticket: Ticket) -> None:
        if not self._ended:
            self.records.append(ticket)
            self._asked = True
            if self.start():
                self._ring()
            else:
                self._work_here(ticket)

    def _wait(self, ticket: Ticket, whom: Sequence[Subscription], until: Callable[[Subscription], float]) -> None:
        """Wait until `whom` have answered, each until its own time (monotonic)."""
        begun = time.monotonic()
        while self._threads and not (self._ended or self._is_worker()):
            times = [until(each) for each in whom if not each.is_done(ticket)]
            left = max(times, default=0.0) - time.monotonic()
            if left <= 0:
                return
            patience = min(HANG_SECONDS, (max(times) - begun) / 4)
            self._check_leader(patience)
            with suppress(Empty):
                ticket.done.get(timeout=max(0.001, min(left, patience)))

    def _end(self) -> None:
        """All exporters are closed: have the last things said, for a bounded time, and the workers end."""
        self._ended = True
        self.mark = 1
        if not self._threads:
            self._say(final=True)
        elif not self._over:
            self._ring()
            with suppress(Empty):
                self._said.get(timeout=REPORT_SECONDS)
                self._said.put(None)  # for others who close at the same time
        self._intake.drain()

    # --- workers ---

    def _start_thread(self, work: Callable[[], None]) -> bool:
        thread = threading.Thread(target=work, name="sidestream", daemon=True)
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is going down, or the system has no more threads
            self._threads.remove(thread)
            return False
        return True

    def _is_worker(self) -> bool:
        """Whether this is a worker's thread."""
        here = threading.get_ident()
        return any(thread.ident == here for thread in self._threads)

    def _work_here(self, ticket: Ticket) -> None:
        """Do a worker's work on this thread, since no other can be had, until `ticket` is answered or cannot be now."""
        self._leader = me = object()
        while not all(each.is_done(ticket) for each in self._subscriptions):
            due = self._round(me)
            if self._leader is not me or (due > time.monotonic() and not ticket.close):
                return

    def _begin_to_lead(self) -> None:
        self._leader = me = object()
        self._start_thread(self._stand_by)
        self._lead(me)

    def _stand_by(self) -> None:
        """Take over when the leader is held up and someone who waits rings; until then, sleep."""
        while not self._over:
            patience = self._stand_by_bell.get()
            since = self._held_since()
            if since is not None:
                time.sleep(max(0.0, since + patience - time.monotonic()))
                if self._take_over(since):
                    return

    def _take_over(self, since: float) -> bool:
        """Lead from now on, unless the leader has got on since it was held up. The leader stays with its exporter."""
        with self._role:
            if since != self._held_since():
                return False
            if self._serving is not None:
                self._serving.alone = self._serving.has_thread = True
            self._serving = self._saying_since = None
            self._leader = me = object()
        self._start_thread(self._stand_by)
        self._lead(me)
        return True

    def _held_since(self) -> float | None:
        serving = self._serving
        return serving.busy_since if serving is not None else self._saying_since

    def _lead(self, me: object) -> None:
        while self._leader is me and not self._ended:
            try:
                due = self._round(me)
            except Exception as error:
                self._on_error(error)
                due = time.monotonic() + POLL_SECONDS
            if self._leader is me and not self._ended:
                self._sleep(due)
        if self._leader is me:
            self._farewell()

    def _round(self, me: object) -> float:
        """Take the records, and let each exporter do what is due; returns when (monotonic) there is more to do."""
        self._round_at = time.monotonic()
        self._asked = False
        hurry, self._hurry = self._hurry, False
        self._intake.drain()
        next_due = inf
        for subscription in self._served:
            if hurry:
                subscription.hurry()
            if not subscription.has_work():
                continue
            if subscription.alone and self._has_thread(subscription):
                subscription.ring()
                continue
            self._serving = subscription
            due = subscription.serve()
            if not self._is_still_leading(me, subscription):
                return inf
            if due is not None:
                next_due = min(next_due, due)
        if all(each.finished for each in self._subscriptions):
            self._ended = True  # where an exporter closed its own sidecar, and nobody waits
        return next_due

    def _is_still_leading(self, me: object, subscription: Subscription) -> bool:
        """Whether no other has taken over in the meantime. Else this thread stays with `subscription` for good."""
        with self._role:
            if self._leader is me:
                self._serving = None
                return True
        subscription.work()
        return False

    def _has_thread(self, subscription: Subscription) -> bool:
        """Whether `subscription` has its thread, or can be given one now. Else the leader serves it like any other."""
        if not subscription.has_thread:
            subscription.has_thread = subscription.alone = self._start_thread(subscription.work)
        return subscription.has_thread

    def _sleep(self, due: float) -> None:
        """Sleep until `due` (monotonic), the next look at the records, or a bell."""
        now = time.monotonic()
        if self._intake.active_at + LINGER_SECONDS > now or self._is_recording():
            self.mark = BACKLOG
            active = self._intake.active_at >= self._round_at
            due = min(due, now + (self._poll if active else POLL_SECONDS))
        else:
            self.mark = 1
        # The mark is set first and the records are looked at afterwards, so that no bell is missed.
        if due > now and not (self._hurry or self._asked or self._ended) and len(self.records) < self.mark:
            self._say()
            with suppress(Empty):
                self._bell.get(timeout=None if due == inf else due - now)
        with suppress(Empty):
            while True:
                self._bell.get_nowait()
        gap = self._round_at + PROMPT_SECONDS - time.monotonic()
        if self._hurry and gap > 0 and not (self._asked or self._ended):
            time.sleep(gap)

    def _say(self, *, final: bool = False) -> None:
        """Log what there is to say."""
        self._saying_since = time.monotonic()
        for subscription in self._subscriptions:
            subscription.report(final=final)
        try:
            self._report()
        except Exception as error:
            self._on_error(error)
        self._saying_since = None

    def _farewell(self) -> None:
        """Say the last things, and close the exporters that a close gave up before they were."""
        self._say(final=True)
        self._over = True
        self._said.put(None)
        self.mark = 1
        for subscription in self._served:
            if not subscription.alone:
                subscription.serve()
        self._stand_by_bell.put(0.0)


def _lost(before: dict[str, int], after: dict[str, int], pending: dict[str, int]) -> dict[str, int]:
    lost = {name: after[name] - before[name] + pending.get(name, 0) for name in after}
    return {name: count for name, count in lost.items() if count}
