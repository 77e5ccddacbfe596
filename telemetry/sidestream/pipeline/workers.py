"""Workers of a pipeline: one thread leads, one stands by, and each exporter that hangs or may wait has one."""

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

from .intake import Intake
from .subscription import Subscription
from .ticket import Ticket

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
"""Seconds that a close waits for pending log messages: stderr may be a pipe that nobody reads."""


class Workers:
    """The threads that take `records`, make events of them, and serve one exporter after the other.

    A second thread stands by. When someone who waits finds that the leader is held up by an exporter's call, the second
    thread leads from then on, and the first stays with that exporter for good. Exporters that are `threaded` have a
    thread of their own from the start.

    The garbage collector ends abandoned runs, and signal handlers end programs, between any two bytecodes of a thread.
    So what they call takes no lock that the interrupted code may hold: it appends to `records` and rings bells.

    Args:
        records: What the caller's path appends to.
        intake: Makes events of the records, and queues them for the exporters.
        subscriptions: The exporters, in the order of their calls.
        is_recording: Whether runs are in progress, so that the worker polls.
        on_error: Takes what goes wrong in a round.
    """

    def __init__(
        self,
        records: deque[Any],
        intake: Intake,
        subscriptions: Sequence[Subscription],
        *,
        is_recording: Callable[[], bool],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._records = records
        self._intake = intake
        self._subscriptions = subscriptions
        self._served = sorted(subscriptions, key=lambda each: not each.exporter.durable)
        self._is_recording = is_recording
        self.report: Callable[[], None] = lambda: None
        """Logs the sidecar's pending messages. Called by a worker now and then, for logging may block."""
        self._on_error = on_error
        self._poll = max(0.001, min([POLL_SECONDS, *(each.exporter.interval for each in subscriptions)]))
        self.reset(ended=not subscriptions)

    def reset(self, *, ended: bool) -> None:
        """Start without a thread."""
        self.mark = 1
        """Number of waiting records at which whoever appends one calls `notice`."""
        self.threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self._role = threading.Lock()
        """Held, by workers alone, while the leader changes."""
        self._leader: object = None
        self._serving: Subscription | None = None
        """Whose exporter the leader is calling."""
        self._saying_since: float | None = None
        """When (monotonic) the leader began to log."""
        self._wakeup: SimpleQueue[None] = SimpleQueue()
        """Wakes the leader. `SimpleQueue`, since a finalizer or signal handler may ring it in the middle of a wait."""
        self._stand_by_wakeup: SimpleQueue[float] = SimpleQueue()
        """Wakes the thread that stands by, with the seconds that the leader may be held up."""
        self._said: SimpleQueue[None] = SimpleQueue()
        self._hurry = self._asked = False
        self.ended = ended
        """Whether every exporter is closed, so that records which come now are counted and no more."""
        self._over = ended
        """Whether the last messages are logged."""
        self._round_at = 0.0

    # --- called from any thread, finalizer or signal handler ---

    def notice(self) -> None:
        """Have the records taken before the worker looks by itself: the worker sleeps, or is behind."""
        if self.ended:
            self._intake.drain()
            return
        self.mark = sys.maxsize  # one bell is enough until a worker has been here
        if self.start():
            self._ring()

    def wake(self) -> None:
        """A run has ended: have all of it delivered at once, whatever the intervals of the exporters."""
        if not (self._hurry or self.ended):
            self._hurry = True
            self._ring()

    def ask(self, ticket: Ticket) -> None:
        """Have `ticket` answered: by a worker, or where no thread can be had, by this one."""
        if not self.ended:
            self._records.append(ticket)
            self._asked = True
            if self.start():
                self._ring()
            else:
                self._work_here(ticket)

    def wait(self, ticket: Ticket, whom: Sequence[Subscription], until: Callable[[Subscription], float]) -> None:
        """Wait until `whom` have answered, each until its own time (monotonic)."""
        begun = time.monotonic()
        while self.threads and not (self.ended or self.is_here()):
            times = [until(each) for each in whom if not each.is_done(ticket)]
            left = max(times, default=0.0) - time.monotonic()
            if left <= 0:
                return
            patience = min(HANG_SECONDS, (max(times) - begun) / 4)
            self.check_leader(patience)
            with suppress(Empty):
                ticket.done.get(timeout=max(0.001, min(left, patience)))

    def end(self) -> None:
        """All exporters are closed: log the last messages, for a bounded time, and end the workers."""
        self.ended = True
        self.mark = 1
        if not self.threads:
            self._say(final=True)
        elif not self._over:
            self._ring()
            with suppress(Empty):
                self._said.get(timeout=REPORT_SECONDS)
                self._said.put(None)  # for others who close at the same time
        self._intake.drain()

    def start(self) -> bool:
        """Have a worker. False where no thread can be started: the interpreter is going down, or the system is full."""
        if not self.threads and self._starting.acquire(blocking=False):
            try:
                if not self.threads:
                    self._start_thread(self._begin_to_lead)
            finally:
                self._starting.release()
        return bool(self.threads)

    def is_here(self) -> bool:
        """Whether this is a worker's thread."""
        here = threading.get_ident()
        return any(thread.ident == here for thread in self.threads)

    def check_leader(self, patience: float = HANG_SECONDS) -> None:
        """Have another thread lead, if the leader is held up for more than `patience` seconds."""
        if self._serving is not None or self._saying_since is not None:
            self._stand_by_wakeup.put(patience)

    def _ring(self) -> None:
        self._wakeup.put(None)
        self.check_leader()

    def _start_thread(self, work: Callable[[], None]) -> bool:
        thread = threading.Thread(target=work, name="sidestream", daemon=True)
        self.threads.append(thread)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is going down, or the system has no more threads
            self.threads.remove(thread)
            return False
        return True

    # --- who leads ---

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
            patience = self._stand_by_wakeup.get()
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

    # --- what the leader does ---

    def _lead(self, me: object) -> None:
        while self._leader is me and not self.ended:
            try:
                due = self._round(me)
            except Exception as error:
                self._on_error(error)
                due = time.monotonic() + POLL_SECONDS
            if self._leader is me and not self.ended:
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
            self.ended = True  # where an exporter closed its own sidecar, and nobody waits
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
        if due > now and not (self._hurry or self._asked or self.ended) and len(self._records) < self.mark:
            self._say()
            with suppress(Empty):
                self._wakeup.get(timeout=None if due == inf else due - now)
        with suppress(Empty):
            while True:
                self._wakeup.get_nowait()
        gap = self._round_at + PROMPT_SECONDS - time.monotonic()
        if self._hurry and gap > 0 and not (self._asked or self.ended):
            time.sleep(gap)

    def _say(self, *, final: bool = False) -> None:
        """Log the pending messages."""
        self._saying_since = time.monotonic()
        for subscription in self._subscriptions:
            subscription.report(final=final)
        try:
            self.report()
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
        self._stand_by_wakeup.put(0.0)
