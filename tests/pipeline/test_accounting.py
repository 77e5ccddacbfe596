"""`seen == exported + dropped + pending` for every exporter at any time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice

import pytest

from sidestream.events import StreamEvent
from sidestream.pipeline import subscription as subscription_module
from sidestream.pipeline.pipeline import Pipeline
from tests.support.faulty_exporters import (
    PAYLOADS,
    SAFETY,
    Behaviour,
    Hanging,
    Scripted,
    a_pipeline,
    an_event,
    away,
    is_balanced,
    raising,
    stats_of,
    works,
)
from tests.support.loopback import until

pytestmark = pytest.mark.scenario_14


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "BACKOFF", (0.001, 0.002))


@pytest.fixture
def _many_switches() -> Iterator[None]:
    """Switch threads so frequently that they interleave everywhere."""
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
    """Threads that put events, and an independent count of the events."""

    def __init__(self, pipeline: Pipeline, threads: int, events: int) -> None:
        self._pipeline = pipeline
        self._events = events
        self.begun = [0] * threads
        self.done = [0] * threads
        self._threads = [threading.Thread(target=self._produce, args=(index,)) for index in range(threads)]

    def _produce(self, index: int) -> None:
        for kind in islice(cycle(PAYLOADS), self._events):
            self.begun[index] += 1
            self._pipeline.put(an_event(kind))
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


def look(pipeline: Pipeline, producers: Producers) -> None:
    stats = stats_of(pipeline)
    begun = sum(producers.begun)
    assert is_balanced(stats), stats
    assert stats.seen <= begun, (stats, begun)


@pytest.mark.usefixtures("_many_switches")
@pytest.mark.parametrize("max_events", [10_000, 50])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_the_books_balance_at_every_look(behaviour: str, max_events: int) -> None:
    exporter = Scripted(BEHAVIOURS[behaviour])
    pipeline = a_pipeline(exporter, max_events=max_events)
    with Producers(pipeline, threads=3, events=1_000) as producers:
        while producers.running():
            look(pipeline, producers)
    pipeline.close(SAFETY)
    look(pipeline, producers)
    stats = stats_of(pipeline)
    assert stats.seen == 3_000
    assert stats.pending == 0
    delivered = exporter.seqs
    assert len(delivered) == len(set(delivered))
    assert stats.exported == len(delivered) - stats.dropped.get("rejected", 0)
    if behaviour in ("works", "is slow") and max_events == 10_000:
        assert stats.dropped == {}


def test_the_books_balance_while_an_exporter_hangs_and_after_it_was_left_behind() -> None:
    exporter = Hanging()
    pipeline = a_pipeline(exporter, max_events=100)
    with Producers(pipeline, threads=3, events=300) as producers:
        while producers.running():
            look(pipeline, producers)
    pipeline.close(0.05)
    look(pipeline, producers)
    stats = stats_of(pipeline)
    assert (stats.seen, stats.exported, stats.pending) == (900, 0, 0)
    assert stats.dropped.keys() == {"overflow", "shutdown"}
    exporter.released.set()
    until(lambda: exporter.calls[-1] == "close")
    after = stats_of(pipeline)
    assert (after.seen, after.exported, after.dropped, after.pending) == (900, 0, stats.dropped, 0)


def test_each_thread_finds_its_events_delivered_in_its_own_order() -> None:
    exporter = Scripted()
    pipeline = a_pipeline(exporter)

    def produce(start: int) -> None:
        for seq in range(start, start + 1_000):
            pipeline.put(an_event("llm_chunk" if seq % 3 else "agent_end", seq))

    threads = [threading.Thread(target=produce, args=(start,)) for start in (0, 10_000, 20_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipeline.close(SAFETY)
    for start in (0, 10_000, 20_000):
        assert [seq for seq in exporter.seqs if start <= seq < start + 1_000] == list(range(start, start + 1_000))


def test_exporters_of_one_name_have_books_of_their_own() -> None:
    pipeline = a_pipeline(Scripted(), Scripted(raising(ValueError())))
    pipeline.put(an_event())
    pipeline.flush(SAFETY)
    books = {name: (stats.exported, sum(stats.dropped.values())) for name, stats in pipeline.stats().items()}
    assert books == {"scripted": (1, 0), "scripted-2": (0, 1)}
    pipeline.close(SAFETY)
