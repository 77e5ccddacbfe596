"""One exporter's share of the hub: a bounded buffer, a worker thread, and the books.

The caller's side is `Channel.put`: append and return. Everything slow happens in the worker, and nobody waits for it
but who asks for a flush or a close.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import NamedTuple

from sidestream.diagnostics import error_once, info, warn, warn_once
from sidestream.errors import ExporterUnavailable
from sidestream.events import StreamEvent, StreamEventType
from sidestream.recording.content import Redactor, apply_policy
from sidestream.stats import ExporterStats

from .exporter import Exporter
from .yielding import NAP

BATCH = 64
"""Events handed over at once: about 100 µs of encoding, so that a worker never holds the GIL for long."""
BATCH_BEHIND = 1_024
"""The same when the worker has fallen behind: each call that lets the GIL go may have to wait 5 ms to get it back."""
FAILURES_TO_OPEN = 5
"""Failed calls in a row after which the breaker opens."""
BACKOFF = (0.25, 30.0)
"""Seconds of the first and the longest pause before a failing exporter is tried again."""
GRACE = 0.2
"""Seconds that every exporter has on close, even where a durable one holds everything already."""
PATIENCE = 1.0
"""Seconds after which, on such a close, a call that has not come back is taken for one that never will."""
IDLE_ROUNDS = 10
"""Empty intervals after which a worker stops polling and waits to be woken."""
INBOX = 64
"""Events (and one part in as many of the bytes) that may come in before they are held against the bounds."""

_RANK = {StreamEventType.LLM_CHUNK: 0} | dict.fromkeys(
    (StreamEventType.LLM_END, StreamEventType.ERROR, StreamEventType.AGENT_END), 2
)
"""Who makes room for whom when a buffer is full: 0 goes first, 2 last. Everything else is 1."""


class _Item(NamedTuple):
    number: int
    """Place in the order of this channel, across the queues. No two items have the same."""
    size: int
    event: StreamEvent


class Flush(NamedTuple):
    """A wish to have everything up to `number` delivered."""

    number: int
    done: SimpleQueue[None]


class Channel:
    """One exporter with its buffer, its worker and its books.

    The garbage collector ends abandoned runs, and signal handlers end programs, in the middle of anything: between two
    bytecodes of any thread, in this file too. `put`, `flush` and `close` may come from there. Hence:

    - `put` waits for no lock. It appends to an inbox; whoever next changes the books sorts that in.
    - The lock is reentrant, and a change that finds itself within another one leaves the inbox alone.
    - Threads wake each other through `SimpleQueue`, which is reentrant. `Event` and `Condition` are not: a collector
      that runs inside `Event.wait` and calls `Event.set` waits for itself for ever.
    """

    def __init__(
        self, name: str, exporter: Exporter, *, max_events: int, max_bytes: int, redact: Redactor | None
    ) -> None:
        self.name = name
        self.exporter = exporter
        self._skip = frozenset(exporter.skip)
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._inbox_events = max(1, min(INBOX, max_events // 8))
        self._inbox_bytes = max_bytes // INBOX
        self._redact = redact
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._changing = False
        self._inbox: deque[tuple[int, StreamEvent]] = deque()
        self._queues: tuple[deque[_Item], ...] = (deque(), deque(), deque())
        self._in_hand: list[_Item] = []
        self._waiting = self._bytes = 0  # in hand and in the queues, not in the inbox
        self._number = self._exported = self._failures = self._strikes = 0
        self._dropped: dict[str, int] = {}
        self._said: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._idle = self._hurried = self._started = self._closing = self._closed = False
        self._flushes: list[Flush] = []
        self._busy_since: float | None = None
        self._came_back = self._close_asked = 0.0
        self._last_success: float | None = None
        self._last_error: str | None = None

    @contextmanager
    def _change(self) -> Iterator[bool]:
        """Hold the books. False within another change of this very thread: some of it may be half done."""
        with self._lock:
            outer, self._changing = not self._changing, True
            try:
                yield outer
            finally:
                if outer:
                    self._changing = False

    @contextmanager
    def _let_go(self) -> Iterator[None]:
        """Give up the books while waiting for the worker, which needs them.

        They are only held where a signal handler waits in the middle of a change of the thread it interrupted.
        """
        levels, changing = 0, False
        if self._lock.acquire(blocking=False):
            changing, self._changing = self._changing, False
            levels = -1
            with suppress(RuntimeError):  # raised by the release of what is not held
                while True:
                    self._lock.release()
                    levels += 1
        try:
            yield
        finally:
            for _ in range(levels):
                self._lock.acquire()
            if levels > 0:
                self._changing = changing

    def begin(self) -> None:
        """Start an exporter that does not wait for the first event."""
        if self.exporter.eager:
            self._start_worker()

    # --- the caller's side ---

    def put(self, event: StreamEvent, size: int) -> None:
        """Take `event`, of about `size` bytes. Returns at once, whatever the exporter and the worker are doing."""
        if self._skip and event.event_type in self._skip:
            return
        inbox = self._inbox
        inbox.append((size, event))
        if len(inbox) >= self._inbox_events or size > self._inbox_bytes:
            if self._lock.acquire(blocking=False):
                try:
                    self._sort_in()
                finally:
                    self._lock.release()
            else:  # whoever holds the lock may have looked into the inbox already
                self._hurry()
        if self._idle:
            self._idle = False
            self._wake.put(None)
        if self._thread is None:
            self._start_worker()

    def _sort_in(self) -> None:
        with self._change() as outer:
            while outer and self._inbox:
                self._admit(*self._inbox.popleft())
            if not self._fits(0, of=0.5):
                self._hurry()

    def _hurry(self) -> None:
        """Wake the worker before its interval is over; once until it has been here."""
        if not self._hurried:
            self._hurried = True
            self._wake.put(None)

    def _admit(self, size: int, event: StreamEvent) -> None:
        rank = _RANK.get(event.event_type, 1)
        if self._closing:
            self._drop("closed", 1)
        elif self._fits(size) or self._make_room(rank, size):
            self._number += 1
            self._waiting += 1
            self._bytes += size
            self._queues[rank].append(_Item(self._number, size, event))
        else:
            self._drop("overflow", 1)

    def _has_any(self) -> bool:
        with self._lock:  # no event is on its way from the inbox to a queue
            return bool(self._inbox) or self._waiting > 0

    def _fits(self, size: int, of: float = 1) -> bool:
        return self._waiting < self._max_events * of and (
            self._waiting == 0 or self._bytes + size <= self._max_bytes * of
        )

    def _make_room(self, rank: int, size: int) -> bool:
        for queue in self._queues[:rank]:
            while queue and size <= self._max_bytes and not self._fits(size):
                self._bytes -= queue.popleft().size
                self._waiting -= 1
                self._drop("overflow", 1)
        # The end of a run outranks the bounds, up to second ones that keep memory finite.
        return self._fits(size, of=2 if rank == 2 else 1)

    def _drop(self, reason: str, count: int) -> None:
        self._dropped[reason] = self._dropped.get(reason, 0) + count

    def _start_worker(self) -> None:
        with self._lock:
            if self._thread is not None or self._closing:
                return
            self._thread = threading.Thread(target=self._work, name=f"sidestream-{self.name}", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is going down: what is pending is counted when the hub closes
                self._thread = None

    # --- the books ---

    def stats(self) -> ExporterStats:
        self._sort_in()
        with self._lock:
            dropped, busy = dict(self._dropped), self._busy_since
            pending = self._waiting + len(self._inbox)
            return ExporterStats(
                # One entry for one event: counted a second time on the way in, the two could come to differ.
                seen=self._exported + sum(dropped.values()) + pending,
                exported=self._exported,
                dropped=dropped,
                pending=pending,
                failures=self._failures,
                state="closed" if self._closed else "failing" if self._strikes else "ok",
                busy_seconds=None if busy is None else time.monotonic() - busy,
                last_success=self._last_success,
                last_error=self._last_error,
            )

    def report(self, *, final: bool = False) -> None:
        """Say once for each reason that events were dropped, and at the end how many it came to.

        Not done where it happens: logging may block.
        """
        for reason, count in list(self._dropped.items()):
            if reason not in self._said or (final and count > self._said[reason]):
                self._said[reason] = count
                warn("events dropped", exporter=self.name, reason=reason, so_far=count)

    # --- flush, close and fork ---

    def request_flush(self) -> Flush:
        """Ask the worker to deliver all that has been seen."""
        self._sort_in()
        if self._thread is None and self._waiting:
            self._start_worker()
        with self._lock:
            flush = Flush(self._number, SimpleQueue())
            if self._closed or self._thread is None:
                flush.done.put(None)
            else:
                self._flushes.append(flush)
                self._wake.put(None)
        return flush

    def wait_flushed(self, flush: Flush, deadline: float) -> int:
        """Wait until `flush` is done or `deadline` (monotonic) has passed; returns how many events it still lacks."""
        with suppress(Empty), self._let_go():
            flush.done.get(timeout=_until(deadline))
            return 0
        with self._lock:
            if flush in self._flushes:
                self._flushes.remove(flush)
            return sum(item.number <= flush.number for queue in (self._in_hand, *self._queues) for item in queue)

    def request_close(self) -> None:
        """Take no more events, and ask the worker to deliver the rest and to close the exporter."""
        self._sort_in()
        self._close_asked = time.monotonic()
        self._closing = True
        self._wake.put(None)

    def wait_closed(self, deadline: float, *, recorded: bool = False) -> None:
        """Wait until the worker has delivered everything and closed the exporter, or give up at `deadline`.

        Where all of it is `recorded` elsewhere, a call that hangs is given up earlier. It may end whenever it likes;
        what was pending is counted as dropped. A sink that is away gets one more try, and no more: a program that ends
        does not wait for the outage to do the same.
        """
        thread = self._thread
        while thread is not None and thread.is_alive():
            left = _until(min(deadline, self._hangs_from()) if recorded else deadline)
            if left == 0:
                break
            try:
                with self._let_go():
                    thread.join(min(left, GRACE))  # and look again: it may be another call by then
            except RuntimeError:  # the worker itself is closing, by way of a finalizer or its exporter
                break
        self._abandon()

    def _hangs_from(self) -> float:
        """When (monotonic) the exporter's present call is to be taken for one that hangs."""
        begun = self._busy_since or max(self._came_back, self._close_asked)
        return max(self._close_asked + GRACE, begun + (GRACE if self._strikes else PATIENCE))

    def _abandon(self) -> None:
        self._sort_in()
        with self._change():
            self._closing = self._closed = True
            if self._waiting:
                self._drop("shutdown", self._waiting)
            self._queues, self._in_hand = (deque(), deque(), deque()), []
            self._waiting = self._bytes = 0
            for flush in self._flushes:
                flush.done.put(None)
            self._flushes = []

    def after_fork(self) -> None:
        """In a forked child: the parent's events are the parent's to deliver."""
        closed = self._closing
        self._reset()
        self._closing = self._closed = closed
        try:
            self.exporter.after_fork()
        except Exception as error:
            error_once("exporter failed after fork", exporter=self.name, exception=type(error).__qualname__)

    # --- the worker ---

    def _work(self) -> None:
        quiet = 0
        while not self._closed:
            if not self._flushes and not self._closing:
                # Said before it is looked whether it is true: a `put` that comes between wakes the worker.
                self._idle = quiet >= IDLE_ROUNDS and (self._started or not self.exporter.eager)
                quiet = 0 if self._has_any() else quiet + 1
                self._sleep(None if self._idle and quiet else self.exporter.interval)
                self._idle = False
            closing, flushes = self._closing, list(self._flushes)
            delivered = self._started_early() and self._deliver(hurry=closing or bool(flushes))
            if closing:
                break
            if not delivered:
                self._pause()
            elif flushes:
                self._guarded(self.exporter.flush)
                self._answer(flushes)
        self._guarded(self.exporter.flush)
        self._guarded(self.exporter.close)
        self._abandon()

    def _started_early(self) -> bool:
        """Start an exporter that does not wait for events, once. False where it cannot start yet."""
        if self._started or not self.exporter.eager:
            return True
        try:
            with self._call():
                self.exporter.start()
            self._started = True
        except BaseException as error:
            self._note_failure(error)
        return self._started

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Around a call of the exporter: whether it is busy, and when it last came back."""
        self._busy_since = time.monotonic()
        try:
            yield
        finally:
            self._came_back, self._busy_since = time.monotonic(), None

    def _sleep(self, seconds: float | None) -> None:
        with suppress(Empty):
            self._wake.get(timeout=None if seconds is None else max(0.0, min(seconds, threading.TIMEOUT_MAX)))

    def _answer(self, flushes: Sequence[Flush]) -> None:
        with self._lock:
            self._flushes = [flush for flush in self._flushes if flush not in flushes]
        for flush in flushes:
            flush.done.put(None)

    def _deliver(self, hurry: bool) -> bool:
        """Hand over all that is pending now, not what comes meanwhile. False where the exporter could not take it."""
        self._sort_in()
        self._hurried = False
        due = self._waiting
        while due > 0 and (batch := self._take()):
            if not self._hand_over(batch):
                return False
            due -= len(batch)
            if not hurry and len(batch) <= BATCH:
                time.sleep(NAP)
        return True

    def _take(self) -> list[_Item]:
        self._sort_in()
        with self._change():
            if not self._in_hand:  # else the batch that an unavailable exporter gave back
                limit = BATCH if self._waiting <= BATCH_BEHIND else BATCH_BEHIND
                oldest = sorted(item for queue in self._queues for item in islice(queue, limit))
                self._in_hand = oldest[:limit]
                for queue in self._queues:
                    while queue and queue[0].number <= self._in_hand[-1].number:
                        queue.popleft()
            return self._in_hand

    def _hand_over(self, batch: Sequence[_Item]) -> bool:
        exporter = self.exporter
        try:
            with self._call():
                if not self._started:
                    exporter.start()
                    self._started = True
                events = [apply_policy(item.event, exporter.content, self._redact) for item in batch]
                lost = _losses(exporter.export(events), len(batch))
        except ExporterUnavailable as error:
            self._note_failure(error)
            return False
        except BaseException as error:  # a worker outlives whatever an exporter raises, SystemExit too
            self._settle(batch, {"error": len(batch)})
            self._note_failure(error)
            return self._strikes < FAILURES_TO_OPEN
        self._last_success = time.time()
        self._settle(batch, lost)
        strikes, self._strikes = self._strikes, 0
        if strikes >= FAILURES_TO_OPEN:
            info("exporter works again", exporter=self.name)
        return True

    def _settle(self, batch: Sequence[_Item], lost: Mapping[str, int]) -> None:
        freed = sum(item.size for item in batch)
        with self._change():
            if self._closed:
                return  # abandoned in the meantime, and counted as dropped then
            self._in_hand = []
            self._waiting -= len(batch)
            self._bytes -= freed
            self._exported += len(batch) - sum(lost.values())
            for reason, count in lost.items():
                self._drop(reason, count)

    def _note_failure(self, error: BaseException) -> None:
        self._failures += 1
        self._strikes += 1
        self._last_error = type(error).__qualname__
        if self._strikes == FAILURES_TO_OPEN:
            warn("exporter keeps failing, pausing it", exporter=self.name, exception=self._last_error)

    def _pause(self) -> None:
        """Wait out the breaker's back-off; a close ends it, a flush shortens it."""
        first, longest = BACKOFF
        delay = min(longest, first * 2 ** min(self._strikes - 1, 10)) * random.uniform(0.8, 1.2)
        until = time.monotonic() + delay
        while (now := time.monotonic()) < until and not self._closing:
            if self._flushes:
                until = min(until, now + first)
            self._sleep(until - now)

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            if self._started:
                with self._call():
                    call()
        except BaseException as error:
            self._failures += 1
            self._last_error = type(error).__qualname__
            warn_once("exporter failed", self.name, exporter=self.name, exception=self._last_error)


def _until(deadline: float) -> float:
    """Seconds left until `deadline` (monotonic), as `join` and `get` can take them."""
    return max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX))


def _losses(reported: Mapping[str, int] | None, offered: int) -> Mapping[str, int]:
    """What an exporter says it could not deliver, if that can be."""
    lost = dict(reported or {})
    if any(type(count) is not int or count < 0 for count in lost.values()) or sum(lost.values()) > offered:
        raise ValueError(f"export() reported {lost} as lost of {offered} events")
    return lost
