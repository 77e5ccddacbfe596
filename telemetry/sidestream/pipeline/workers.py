"""Workers of a pipeline: a leader, a standby thread, and dedicated threads for exporters that may block."""

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
"""Maximum pause in seconds between two checks for records while runs are in progress."""
LINGER_SECONDS = 1.0
"""Seconds without records or runs after which the worker sleeps until woken."""
PROMPT_SECONDS = 0.01
"""Minimum seconds between two rounds, so that the ends of many runs are delivered together."""
BACKLOG = 1_000
"""Number of pending records that wakes a polling worker."""
HANG_SECONDS = 0.1
"""Maximum seconds for which an exporter's call may block the other exporters while a thread waits for them."""
REPORT_SECONDS = 0.5
"""Maximum seconds for which a close waits for pending log messages, since stderr may be a blocked pipe."""


class Workers:
    """Threads that turn `records` into events, and serve the exporters in turn.

    A second thread stands by. If a waiting thread finds the leader blocked in an exporter's call, the standby thread
    becomes the leader, and the blocked thread stays with its exporter for good. `threaded` exporters have dedicated
    threads from the start.

    The garbage collector ends abandoned runs, and signal handlers end programs, between any two bytecodes of a thread.
    Their code therefore takes no lock that the interrupted code may hold: it appends to `records` and to wake-up
    queues.

    Args:
        records: Records appended by the caller's path.
        intake: Turns records into events, and queues them for the exporters.
        subscriptions: Subscriptions of the exporters, in the order of their calls.
        is_recording: Whether runs are in progress, so that the worker polls.
        on_error: Receives exceptions of a round.
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
        """Logs pending messages of the sidecar. Called by a worker from time to time, because logging may block."""
        self._on_error = on_error
        self._poll = max(0.001, min([POLL_SECONDS, *(each.exporter.interval for each in subscriptions)]))
        self.reset(ended=not subscriptions)

    def reset(self, *, ended: bool) -> None:
        """Reset to a state without threads."""
        self.mark = 1
        """Number of pending records from which an appending thread calls `notice`."""
        self.threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self._role = threading.Lock()
        """Lock for changes of the leader, taken by workers only."""
        self._leader: object = None
        self._serving: Subscription | None = None
        """Subscription whose exporter the leader is calling."""
        self._logging_since: float | None = None
        """Monotonic time at which the leader started logging; None if it is not logging."""
        self._wakeup: SimpleQueue[None] = SimpleQueue()
        """Wakes the leader. A `SimpleQueue`, because a finalizer or signal handler may put during a wait."""
        self._stand_by_wakeup: SimpleQueue[float] = SimpleQueue()
        """Wakes the standby thread, with the seconds for which the leader may block."""
        self._logged: SimpleQueue[None] = SimpleQueue()
        self._hurry = self._ticket_pending = False
        self.ended = ended
        """Whether all exporters are closed, so that new records are only counted as dropped."""
        self._all_logged = ended
        """Whether the last messages have been logged."""
        self._round_at = 0.0

    # --- called from any thread, finalizer or signal handler ---

    def notice(self) -> None:
        """Wake a worker that sleeps or lags behind, to process the records early."""
        if self.ended:
            self._intake.drain()
            return
        self.mark = sys.maxsize  # one wake-up suffices until the next round
        if self.start():
            self._wake_leader()

    def wake(self) -> None:
        """Deliver the events of an ended run at once, regardless of the exporters' intervals."""
        if not (self._hurry or self.ended):
            self._hurry = True
            self._wake_leader()

    def submit(self, ticket: Ticket) -> None:
        """Process `ticket` on a worker, or on this thread if no worker can be started."""
        if not self.ended:
            self._records.append(ticket)
            self._ticket_pending = True
            if self.start():
                self._wake_leader()
            else:
                self._work_here(ticket)

    def wait(
        self, ticket: Ticket, subscriptions: Sequence[Subscription], until: Callable[[Subscription], float]
    ) -> None:
        """Wait for `subscriptions` to complete `ticket`, each until its own monotonic deadline."""
        begun = time.monotonic()
        while self.threads and not (self.ended or self.is_here()):
            times = [until(each) for each in subscriptions if not each.is_done(ticket)]
            left = max(times, default=0.0) - time.monotonic()
            if left <= 0:
                return
            patience = min(HANG_SECONDS, (max(times) - begun) / 4)
            self.check_leader(patience)
            with suppress(Empty):
                ticket.done.get(timeout=max(0.001, min(left, patience)))

    def end(self) -> None:
        """Log the last messages within a bounded time, and end the workers. Called once all exporters are closed."""
        self.ended = True
        self.mark = 1
        if not self.threads:
            self._log_pending(final=True)
        elif not self._all_logged:
            self._wake_leader()
            with suppress(Empty):
                self._logged.get(timeout=REPORT_SECONDS)
                self._logged.put(None)  # for threads that close concurrently
        self._intake.drain()

    def start(self) -> bool:
        """Start a worker if there is none. Returns False if no thread can be started, as at interpreter exit."""
        if not self.threads and self._starting.acquire(blocking=False):
            try:
                if not self.threads:
                    self._start_thread(self._begin_to_lead)
            finally:
                self._starting.release()
        return bool(self.threads)

    def is_here(self) -> bool:
        """Whether the current thread is a worker."""
        here = threading.get_ident()
        return any(thread.ident == here for thread in self.threads)

    def check_leader(self, patience: float = HANG_SECONDS) -> None:
        """Replace the leader by the standby thread if the leader blocks for more than `patience` seconds."""
        if self._serving is not None or self._logging_since is not None:
            self._stand_by_wakeup.put(patience)

    def _wake_leader(self) -> None:
        self._wakeup.put(None)
        self.check_leader()

    def _start_thread(self, work: Callable[[], None]) -> bool:
        thread = threading.Thread(target=work, name="sidestream", daemon=True)
        self.threads.append(thread)
        try:
            thread.start()
        except RuntimeError:  # interpreter exit, or thread limit of the system
            self.threads.remove(thread)
            return False
        return True

    # --- leadership ---

    def _work_here(self, ticket: Ticket) -> None:
        """Work on the current thread, as no worker can be started, until `ticket` is completed or nothing is due."""
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
        """Sleep until the leader blocks and a waiting thread asks for a replacement, then lead."""
        while not self._all_logged:
            patience = self._stand_by_wakeup.get()
            since = self._blocked_since()
            if since is not None:
                time.sleep(max(0.0, since + patience - time.monotonic()))
                if self._take_over(since):
                    return

    def _take_over(self, since: float) -> bool:
        """Become the leader, unless the old leader has progressed since `since`. The old one keeps its exporter."""
        with self._role:
            if since != self._blocked_since():
                return False
            if self._serving is not None:
                self._serving.dedicated = self._serving.has_thread = True
            self._serving = self._logging_since = None
            self._leader = me = object()
        self._start_thread(self._stand_by)
        self._lead(me)
        return True

    def _blocked_since(self) -> float | None:
        serving = self._serving
        return serving.busy_since if serving is not None else self._logging_since

    # --- work of the leader ---

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
            self._finish()

    def _round(self, me: object) -> float:
        """Process the records and serve each exporter; returns the monotonic time at which more work is due."""
        self._round_at = time.monotonic()
        self._ticket_pending = False
        hurry, self._hurry = self._hurry, False
        self._intake.drain()
        next_due = inf
        for subscription in self._served:
            if hurry:
                subscription.hurry()
            if not subscription.has_work():
                continue
            if subscription.dedicated and self._has_thread(subscription):
                subscription.wake_thread()
                continue
            self._serving = subscription
            due = subscription.serve()
            if not self._is_still_leading(me, subscription):
                return inf
            if due is not None:
                next_due = min(next_due, due)
        if all(each.finished for each in self._subscriptions):
            self.ended = True  # an exporter closed its own sidecar, so no thread waits in `end`
        return next_due

    def _is_still_leading(self, me: object, subscription: Subscription) -> bool:
        """Whether this thread still leads. Otherwise it serves `subscription` to its end, then returns False."""
        with self._role:
            if self._leader is me:
                self._serving = None
                return True
        subscription.work()
        return False

    def _has_thread(self, subscription: Subscription) -> bool:
        """Whether `subscription` has, or now gets, a dedicated thread. Otherwise the leader serves it."""
        if not subscription.has_thread:
            subscription.has_thread = subscription.dedicated = self._start_thread(subscription.work)
        return subscription.has_thread

    def _sleep(self, due: float) -> None:
        """Sleep until the monotonic time `due`, the next poll, or a wake-up."""
        now = time.monotonic()
        if self._intake.active_at + LINGER_SECONDS > now or self._is_recording():
            self.mark = BACKLOG
            active = self._intake.active_at >= self._round_at
            due = min(due, now + (self._poll if active else POLL_SECONDS))
        else:
            self.mark = 1
        # Set the mark first and check the records afterwards, so that no wake-up is missed.
        if due > now and not (self._hurry or self._ticket_pending or self.ended) and len(self._records) < self.mark:
            self._log_pending()
            with suppress(Empty):
                self._wakeup.get(timeout=None if due == inf else due - now)
        with suppress(Empty):
            while True:
                self._wakeup.get_nowait()
        gap = self._round_at + PROMPT_SECONDS - time.monotonic()
        if self._hurry and gap > 0 and not (self._ticket_pending or self.ended):
            time.sleep(gap)

    def _log_pending(self, *, final: bool = False) -> None:
        """Log the pending messages."""
        self._logging_since = time.monotonic()
        for subscription in self._subscriptions:
            subscription.report(final=final)
        try:
            self.report()
        except Exception as error:
            self._on_error(error)
        self._logging_since = None

    def _finish(self) -> None:
        """Log the last messages, and close exporters that a close has abandoned."""
        self._log_pending(final=True)
        self._all_logged = True
        self._logged.put(None)
        self.mark = 1
        for subscription in self._served:
            if not subscription.dedicated:
                subscription.serve()
        self._stand_by_wakeup.put(0.0)
