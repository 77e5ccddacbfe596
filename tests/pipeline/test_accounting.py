"""`seen == exported + dropped + pending`, for every exporter, whatever it does, at every look."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice, pairwise

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidestream.events import StreamEvent
from sidestream.pipeline import channel as channel_module
from sidestream.pipeline.channel import Channel
from sidestream.pipeline.dispatcher import Hub
from tests.support.faulty_exporters import (
    PAYLOADS,
    SAFETY,
    Behaviour,
    Hanging,
    Scripted,
    a_channel,
    an_event,
    away,
    is_balanced,
    raising,
    works,
)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "BACKOFF", (0.001, 0.002))


@pytest.fixture
def _many_switches() -> Iterator[None]:
    """Threads take turns so often that they meet in the middle of everything."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.000_01)
    yield
    sys.setswitchinterval(before)


def loses_one(events: Sequence[StreamEvent]) -> dict[str, int]:
    return {"rejected": 1}


def is_slow(events: Sequence[StreamEvent]) -> None:
    time.sleep(0.001 * len(events) / 64)


BEHAVIOURS: dict[str, Behaviour] = {
    "works": works,
    "raises": raising(ValueError("no")),
    "raises SystemExit": raising(SystemExit(3)),
    "raises KeyboardInterrupt": raising(KeyboardInterrupt()),
    "raises GeneratorExit": raising(GeneratorExit()),
    "is away": away,
    "is slow": is_slow,
    "loses one of each batch": loses_one,
}


class Producers:
    """Threads that put events, and the only other account of how many there were."""

    def __init__(self, channel: Channel, threads: int, events: int) -> None:
        self._channel = channel
        self._events = events
        self.begun = [0] * threads
        self.done = [0] * threads
        self._threads = [threading.Thread(target=self._produce, args=(index,)) for index in range(threads)]

    def _produce(self, index: int) -> None:
        for kind in islice(cycle(PAYLOADS), self._events):
            self.begun[index] += 1
            self._channel.put(an_event(kind), 10)
            self.done[index] += 1

    def __enter__(self) -> Producers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for thread in self._threads:
            thread.join()

    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)


def look(channel: Channel, producers: Producers) -> None:
    done = sum(producers.done)
    stats = channel.stats()
    begun = sum(producers.begun)
    assert is_balanced(stats), stats
    assert done <= stats.seen <= begun, (done, stats, begun)


@pytest.mark.usefixtures("_many_switches")
@pytest.mark.parametrize("max_events", [10_000, 50])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_the_books_balance_at_every_look(behaviour: str, max_events: int) -> None:
    exporter = Scripted(BEHAVIOURS[behaviour])
    channel = a_channel(exporter, max_events=max_events)
    with Producers(channel, threads=3, events=1_000) as producers:
        while producers.running():
            look(channel, producers)
    channel.request_close()
    look(channel, producers)
    channel.wait_closed(time.monotonic() + SAFETY)
    look(channel, producers)
    stats = channel.stats()
    assert stats.seen == 3_000
    assert stats.pending == 0
    delivered = exporter.seqs
    assert len(delivered) == len(set(delivered))
    assert stats.exported == len(delivered) - stats.dropped.get("rejected", 0)
    if behaviour in ("works", "is slow") and max_events == 10_000:
        assert stats.dropped == {}


def test_the_books_balance_while_an_exporter_hangs_and_after_it_was_left_behind() -> None:
    exporter = Hanging()
    channel = a_channel(exporter, max_events=100)
    with Producers(channel, threads=3, events=300) as producers:
        while producers.running():
            look(channel, producers)
    channel.request_close()
    channel.wait_closed(time.monotonic() + 0.05)
    look(channel, producers)
    stats = channel.stats()
    assert (stats.seen, stats.exported, stats.pending) == (900, 0, 0)
    assert stats.dropped.keys() == {"overflow", "shutdown"}
    exporter.released.set()
    assert channel._thread is not None
    channel._thread.join(SAFETY)
    after = channel.stats()
    assert (after.seen, after.exported, after.dropped, after.pending) == (900, 0, stats.dropped, 0)


def test_each_thread_finds_its_events_delivered_in_its_own_order() -> None:
    exporter = Scripted()
    channel = a_channel(exporter)

    def produce(start: int) -> None:
        for seq in range(start, start + 1_000):
            channel.put(an_event("llm_chunk" if seq % 3 else "agent_end", seq), 1)

    threads = [threading.Thread(target=produce, args=(start,)) for start in (0, 10_000, 20_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    channel.request_close()
    channel.wait_closed(time.monotonic() + SAFETY)
    for start in (0, 10_000, 20_000):
        assert [seq for seq in exporter.seqs if start <= seq < start + 1_000] == list(range(start, start + 1_000))


def test_exporters_of_one_name_have_books_of_their_own() -> None:
    hub = Hub([Scripted(), Scripted(raising(ValueError()))], max_events=100, max_bytes=10**9, redact=None)
    hub.put(an_event())
    assert hub.flush(SAFETY) == {"scripted-2": 1}
    assert {name: stats.exported for name, stats in hub.stats().items()} == {"scripted": 1, "scripted-2": 0}
    hub.close(SAFETY)


class Books(RuleBasedStateMachine):
    """Any sequence of events, faults, flushes and closes."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses, channel_module.BACKOFF = channel_module.BACKOFF, (0.001, 0.002)
        self.exporter = Scripted()
        self.channel = a_channel(self.exporter, max_events=20, max_bytes=2_000)
        self.put: list[int] = []
        self.behaviour = "works"
        self.closed = False

    @rule(kinds=st.lists(st.sampled_from(list(PAYLOADS)), max_size=30), size=st.sampled_from([1, 90, 700, 3_000]))
    def put_events(self, kinds: list[str], size: int) -> None:
        for kind in kinds:
            event = an_event(kind)
            self.put.append(event.seq)
            self.channel.put(event, size)

    @rule(behaviour=st.sampled_from(list(BEHAVIOURS)))
    def change_behaviour(self, behaviour: str) -> None:
        self.behaviour = behaviour
        self.exporter.behaviour = BEHAVIOURS[behaviour]

    @rule()
    def wait_a_little(self) -> None:
        time.sleep(0.003)

    @rule()
    def flush(self) -> None:
        timeout = 0.02 if self.behaviour == "is away" else SAFETY
        flush = self.channel.request_flush()
        lacking = self.channel.wait_flushed(flush, time.monotonic() + timeout)
        if self.behaviour != "is away":
            assert lacking == 0
            assert self.channel.stats().pending == 0

    @rule()
    @precondition(lambda self: not self.closed)
    def close(self) -> None:
        self.closed = True
        self.channel.request_close()
        self.channel.wait_closed(time.monotonic() + SAFETY)

    @invariant()
    def balanced(self) -> None:
        stats = self.channel.stats()
        assert is_balanced(stats)
        assert stats.seen == len(self.put)
        if self.closed:
            assert stats.pending == 0
            assert stats.state == "closed"

    @invariant()
    def nothing_doubled_and_order_kept(self) -> None:
        seqs = self.exporter.seqs
        assert all(a < b for a, b in pairwise(seqs))

    def teardown(self) -> None:
        self.exporter.behaviour = works
        self.channel.request_close()
        self.channel.wait_closed(time.monotonic() + SAFETY)
        channel_module.BACKOFF = self.pauses
        stats = self.channel.stats()
        assert stats.pending == 0
        assert stats.exported == len(self.exporter) - stats.dropped.get("rejected", 0)


TestBooks = Books.TestCase
TestBooks.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
