"""Workers and exporters: outages, hangs, life cycle, and reentrant calls."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import pytest

from sidestream.errors import ExporterUnavailable
from sidestream.events import StreamEvent
from sidestream.pipeline import subscription as subscription_module
from sidestream.pipeline import workers as workers_module
from sidestream.pipeline.assembler import Emit
from sidestream.pipeline.pipeline import Pipeline
from tests.support.faulty_exporters import (
    SAFETY,
    Hanging,
    Scripted,
    a_pipeline,
    an_event,
    away,
    hung,
    is_balanced,
    raising,
    stats_of,
    works,
)
from tests.support.loopback import until


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "BACKOFF", (0.005, 0.02))


def flush(pipeline: Pipeline, timeout: float = SAFETY) -> int:
    """Number of events that the exporters lack or have lost at the end."""
    return sum(pipeline.flush(timeout).values())


def put_all(pipeline: Pipeline, *kinds: str) -> list[int]:
    events = [an_event(kind) for kind in kinds]
    for event in events:
        pipeline.put(event)
    return [event.seq for event in events]


class TestOverflow:
    def test_what_a_full_queue_drops_is_counted_and_the_rest_arrives_in_order(self) -> None:
        with hung(max_events=11) as (pipeline, exporter):
            put_all(pipeline, *["llm_chunk"] * 10)
            kept = put_all(pipeline, *["tool_start"] * 4, *["agent_end"] * 6)
            pipeline.flush(0.3)
            assert stats_of(pipeline).dropped == {"overflow": 10}
            exporter.released.set()
            assert flush(pipeline) == 0
            assert exporter.seqs[1:] == kept

    def test_what_has_been_delivered_makes_room_again(self) -> None:
        pipeline = a_pipeline(Scripted(), max_events=8)
        for _ in range(10):
            put_all(pipeline, *["tool_start"] * 7)
            assert flush(pipeline) == 0
        assert stats_of(pipeline).dropped == {}
        pipeline.close(SAFETY)

    def test_a_queue_that_fills_up_is_delivered_before_the_interval_is_over(self) -> None:
        for _ in range(20):
            exporter = Scripted()
            exporter.interval = 10 * SAFETY
            pipeline = a_pipeline(exporter, max_events=100)
            put_all(pipeline, *["tool_start"] * 60)
            until(lambda exporter=exporter: len(exporter))  # type: ignore[misc]
            pipeline.close(SAFETY)

    def test_types_in_skip_are_not_offered_and_not_counted(self) -> None:
        exporter = Scripted()
        exporter.skip = frozenset({"llm_chunk"})
        pipeline = a_pipeline(exporter)
        kept = put_all(pipeline, "llm_chunk", "tool_start", "llm_chunk")[1:2]
        flush(pipeline)
        assert exporter.seqs == kept
        assert stats_of(pipeline).seen == 1
        pipeline.close(SAFETY)


class TestOutage:
    def test_what_an_unavailable_exporter_refused_comes_again_once_and_in_order(self) -> None:
        exporter = Scripted(away)
        pipeline = a_pipeline(exporter)
        came = put_all(pipeline, *["llm_chunk", "agent_end", "tool_start"] * 100)
        until(lambda: stats_of(pipeline).failures >= 3)
        assert stats_of(pipeline).state == "failing"
        came += put_all(pipeline, *["llm_chunk", "agent_end"] * 100)
        exporter.behaviour = works
        assert flush(pipeline) == 0
        assert exporter.seqs == came
        assert stats_of(pipeline).state == "ok"
        assert stats_of(pipeline).dropped == {}
        pipeline.close(SAFETY)

    def test_start_is_tried_again_where_the_sink_was_away_then(self) -> None:
        class LateStarter(Scripted):
            def start(self) -> None:
                super().start()
                if len(self.calls) < 3:
                    raise ExporterUnavailable("not yet")

        exporter = LateStarter()
        pipeline = a_pipeline(exporter)
        came = put_all(pipeline, "tool_start", "tool_start")
        assert flush(pipeline) == 0
        assert exporter.seqs == came
        assert exporter.calls[:4] == ["start", "start", "start", "export"]
        pipeline.close(SAFETY)

    def test_a_batch_that_raised_is_lost_and_the_next_is_not(self) -> None:
        exporter = Scripted(raising(ValueError("no")))
        pipeline = a_pipeline(exporter)
        put_all(pipeline, "tool_start")
        flush(pipeline)
        exporter.behaviour = works
        came = put_all(pipeline, "tool_start")
        assert flush(pipeline) == 0
        assert exporter.seqs == came
        stats = stats_of(pipeline)
        assert (stats.dropped, stats.failures, stats.last_error) == ({"error": 1}, 1, "ValueError")
        pipeline.close(SAFETY)

    def test_an_exporter_that_keeps_failing_is_left_alone_for_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(subscription_module, "BACKOFF", (SAFETY, SAFETY))
        exporter = Scripted(raising(ValueError("no")))
        pipeline = a_pipeline(exporter)
        for number in range(subscription_module.FAILURES_TO_OPEN):
            put_all(pipeline, "tool_start")
            until(lambda number=number: stats_of(pipeline).failures > number)  # type: ignore[misc]
        put_all(pipeline, "tool_start")
        time.sleep(0.2)
        assert stats_of(pipeline).failures == subscription_module.FAILURES_TO_OPEN
        assert stats_of(pipeline).pending > 0
        pipeline.close(SAFETY)

    def test_a_flush_that_timed_out_shortens_no_pause_after_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(subscription_module, "BACKOFF", (0.005, SAFETY))
        exporter = Scripted(away)
        pipeline = a_pipeline(exporter)
        put_all(pipeline, "tool_start")
        assert flush(pipeline, 0.15) == 1
        failures = stats_of(pipeline).failures
        time.sleep(0.15)
        assert stats_of(pipeline).failures <= failures + 1
        pipeline.close(SAFETY)

    def test_losses_that_cannot_be_count_as_an_error_of_the_exporter(self) -> None:
        for lost in ({"rejected": 5}, {"rejected": -1}, {"rejected": "all"}):
            pipeline = a_pipeline(Scripted(lambda events, lost=lost: lost))  # type: ignore[misc]
            put_all(pipeline, "tool_start")
            flush(pipeline)
            assert stats_of(pipeline).dropped == {"error": 1}
            assert is_balanced(stats_of(pipeline))
            pipeline.close(SAFETY)


class TestLife:
    def test_an_exporter_is_started_once_and_closed_once_after_a_last_flush(self) -> None:
        exporter = Scripted()
        pipeline = a_pipeline(exporter)
        put_all(pipeline, "tool_start")
        pipeline.close(SAFETY)
        pipeline.close(SAFETY)
        assert exporter.calls == ["start", "export", "flush", "close"]

    def test_an_exporter_that_got_nothing_is_neither_started_nor_closed(self) -> None:
        exporter = Scripted()
        pipeline = a_pipeline(exporter)
        assert flush(pipeline) == 0
        pipeline.close(SAFETY)
        assert exporter.calls == []

    def test_flush_reaches_the_exporter_though_nothing_is_pending(self) -> None:
        exporter = Scripted()
        pipeline = a_pipeline(exporter)
        put_all(pipeline, "tool_start")
        flush(pipeline)
        flush(pipeline)
        assert exporter.calls == ["start", "export", "flush", "flush"]
        pipeline.close(SAFETY)

    def test_flush_ends_though_events_keep_coming(self) -> None:
        exporter = Scripted()
        pipeline = a_pipeline(exporter)
        exporter.behaviour = lambda events: pipeline.put(an_event())
        came = put_all(pipeline, *["tool_start"] * 200)
        assert flush(pipeline, SAFETY / 4) == 0
        assert set(came) <= set(exporter.seqs)
        exporter.behaviour = works
        pipeline.close(SAFETY)

    def test_an_idle_worker_wakes_for_an_event(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workers_module, "LINGER_SECONDS", 0.0)
        exporter = Scripted()
        pipeline = a_pipeline(exporter)
        for total in range(1, 100):
            put_all(pipeline, "tool_start")
            until(lambda total=total: len(exporter) >= total)  # type: ignore[misc]
        pipeline.close(SAFETY)

    def test_the_end_of_a_run_is_delivered_at_once(self) -> None:
        exporters = [Scripted(), Scripted()]
        for exporter, threaded in zip(exporters, (False, True), strict=True):
            exporter.threaded = threaded
            exporter.interval = 10 * SAFETY
        pipeline = a_pipeline(*exporters)
        put_all(pipeline, "tool_start", "agent_end")
        pipeline.wake()
        until(lambda: all(len(exporter) == 2 for exporter in exporters))
        pipeline.close(SAFETY)

    def test_an_abandoned_exporter_is_closed_when_it_comes_back(self) -> None:
        with hung() as (pipeline, exporter):
            pipeline.close(0.01)
            assert stats_of(pipeline).dropped == {"shutdown": 1}
            exporter.released.set()
            until(lambda: exporter.calls == ["start", "export", "flush", "close"])
            assert stats_of(pipeline).dropped == {"shutdown": 1}
            assert is_balanced(stats_of(pipeline))

    @pytest.mark.parametrize("threaded", [False, True])
    def test_an_exporter_may_close_its_own_pipeline(self, threaded: bool) -> None:
        exporter, other = Scripted(), Scripted()
        exporter.threaded = threaded
        pipeline = a_pipeline(exporter, other)
        exporter.behaviour = lambda events: pipeline.close(SAFETY)
        put_all(pipeline, "tool_start")
        until(lambda: all(stats.state == "closed" for stats in pipeline.stats().values()))
        until(lambda: not any(thread.is_alive() for thread in pipeline._workers.threads))
        assert [stats.exported for stats in pipeline.stats().values()] == [1, 1]
        assert exporter.calls == ["start", "export", "flush", "close"]

    @pytest.mark.parametrize("how", ["flush", "close"])
    def test_where_no_thread_can_be_started_whoever_waits_does_the_work(
        self, how: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

        exporter = Scripted()
        pipeline = a_pipeline(exporter)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            came = put_all(pipeline, "tool_start", "tool_start")
            assert len(pipeline.records) == 2
            assert getattr(pipeline, how)(SAFETY) == {}
        assert exporter.seqs == came
        pipeline.close(SAFETY)
        assert exporter.calls[-1] == "close"

    def test_where_no_thread_can_be_started_a_sink_that_is_away_is_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

        monkeypatch.setattr(subscription_module, "BACKOFF", (SAFETY, SAFETY))
        pipeline = a_pipeline(Scripted(away))
        monkeypatch.setattr(threading.Thread, "start", refuse)
        put_all(pipeline, "tool_start")
        assert pipeline.flush(100 * SAFETY) == {"scripted": 1}
        assert pipeline.close(100 * SAFETY) == {"scripted": 1}

    def test_events_after_a_close_are_counted_and_not_kept(self) -> None:
        pipeline = a_pipeline(Scripted())
        put_all(pipeline, "tool_start")
        pipeline.close(SAFETY)
        put_all(pipeline, *["tool_start"] * 5)
        assert len(pipeline.records) == 0
        assert stats_of(pipeline).dropped == {"closed": 5}


class Doubling:
    """Assembler that makes two events per number, and one for a stalled stream."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.stale = 0

    def feed(self, record: Any, emit: Emit) -> None:
        self.threads.add(threading.get_ident())
        if record == "bad":
            raise LookupError("a fault of the assembler's own")
        emit(an_event("tool_start", seq=2 * record))
        emit(an_event("tool_start", seq=2 * record + 1))

    def flush_stale(self, now_ns: int, emit: Emit) -> None:
        self.stale += 1


class TestAssembler:
    def test_records_become_events_in_order_and_events_pass(self) -> None:
        exporter, assembler = Scripted(), Doubling()
        pipeline = Pipeline([exporter], assembler=assembler, max_events=1_000, max_bytes=10**9)
        pipeline.put(0)
        pipeline.put(an_event("agent_end", seq=2))
        pipeline.put(2)
        assert pipeline.flush(SAFETY) == {}
        assert exporter.seqs == [0, 1, 2, 4, 5]
        assert threading.get_ident() not in assembler.threads
        pipeline.close(SAFETY)

    def test_what_it_raises_is_told_and_the_next_record_is_taken(self) -> None:
        errors: list[Exception] = []
        exporter = Scripted()
        pipeline = Pipeline([exporter], assembler=Doubling(), max_events=1_000, max_bytes=10**9, on_error=errors.append)
        for record in (0, "bad", 1):
            pipeline.put(record)
        pipeline.flush(SAFETY)
        assert exporter.seqs == [0, 1, 2, 3]
        assert [type(error) for error in errors] == [LookupError]
        pipeline.close(SAFETY)

    def test_it_is_asked_for_what_is_stale_while_runs_are_in_progress(self) -> None:
        assembler = Doubling()
        pipeline = Pipeline(
            [Scripted()], assembler=assembler, max_events=1_000, max_bytes=10**9, is_recording=lambda: True
        )
        pipeline.start()
        until(lambda: assembler.stale >= 3)
        pipeline.close(SAFETY)


class TestBulkheads:
    @pytest.mark.parametrize("who_waits", ["flush", "stats", "backlog", "end of a run"])
    def test_a_hanging_exporter_holds_up_no_other_once_someone_waits(
        self, who_waits: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workers_module, "BACKLOG", 50)
        healthy = Scripted()
        with hung(healthy) as (pipeline, hanging):
            put_all(pipeline, *["agent_end"] * 99)
            if who_waits == "flush":
                assert pipeline.flush(1.0).keys() == {"hanging"}
            elif who_waits == "end of a run":
                pipeline.wake()
            until(lambda: len(healthy) == 100 or (who_waits == "stats" and not pipeline.stats()))
            stats = pipeline.stats()["hanging"]
            assert stats.busy_seconds is not None
            assert stats.busy_seconds > 0
            assert is_balanced(stats)
            hanging.released.set()
            assert pipeline.flush(SAFETY) == {}
            assert len(hanging.seqs) == 100

    def test_each_of_several_hanging_exporters_keeps_a_thread_and_no_more(self) -> None:
        exporters = [Hanging() for _ in range(4)]
        healthy = Scripted()
        pipeline = a_pipeline(*exporters, healthy)
        for total in range(1, 30):
            put_all(pipeline, "agent_end")
            pipeline.flush(0.05)
            if all(exporter.entered.is_set() for exporter in exporters) and len(healthy) == total:
                break
        assert len(healthy) == total
        assert sum(thread.is_alive() for thread in pipeline._workers.threads) <= len(exporters) + 2
        for exporter in exporters:
            exporter.released.set()
        assert pipeline.close(SAFETY) == {}

    def test_an_exporter_that_waits_for_a_network_holds_up_no_other_at_all(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workers_module, "HANG_SECONDS", 10 * SAFETY)
        hanging, healthy = Hanging(), Scripted()
        hanging.threaded = True
        pipeline = a_pipeline(hanging, healthy)
        put_all(pipeline, "agent_end")
        assert hanging.entered.wait(SAFETY)
        put_all(pipeline, "agent_end")
        until(lambda: len(healthy) == 2)
        hanging.released.set()
        assert pipeline.close(SAFETY) == {}
        assert len(hanging) == 2


class TestCallerIsLeftAlone:
    def test_put_calls_neither_the_exporter_nor_logging(self, monkeypatch: pytest.MonkeyPatch) -> None:
        here = threading.get_ident()
        intruders: list[str] = []

        class Watchful(Scripted):
            def export(self, events: Sequence[StreamEvent]) -> None:
                if threading.get_ident() == here:
                    intruders.append("export")
                raise ValueError("no")

        def handle(record: logging.LogRecord) -> None:
            if threading.get_ident() == here:
                intruders.append(record.getMessage())

        monkeypatch.setattr(logging.getLogger("sidestream"), "handle", handle)
        pipeline = a_pipeline(Watchful(), max_events=50)
        for _ in range(300):
            put_all(pipeline, "llm_chunk", "agent_end")
            time.sleep(0.000_1)
        pipeline.close(SAFETY)
        assert sum(stats_of(pipeline).dropped.values()) == 600
        assert intruders == []

    @pytest.mark.parametrize("lock", ["_intake._lock", "_workers._role", "_workers._starting"])
    def test_put_waits_for_no_lock(self, lock: str) -> None:
        pipeline = a_pipeline(Scripted())
        put_all(pipeline, "tool_start")
        flush(pipeline)
        with attrgetter(lock)(pipeline):
            put_all(pipeline, *["tool_start"] * 2_000)
            pipeline.wake()
            pipeline.stats()
        assert flush(pipeline) == 0
        assert stats_of(pipeline).exported == 2_001
        pipeline.close(SAFETY)


@pytest.fixture
def _collect_often() -> Iterator[None]:
    gc.collect()
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.enable()
    gc.collect()


class TestReentrance:
    """The garbage collector runs finalizers in any thread, between any two bytecodes, and finalizers end runs."""

    @pytest.mark.usefixtures("_collect_often")
    @pytest.mark.parametrize("linger", [0.0, 1.0])
    def test_events_put_by_the_garbage_collector_are_counted_and_nobody_waits_for_himself(
        self, monkeypatch: pytest.MonkeyPatch, linger: float
    ) -> None:
        monkeypatch.setattr(workers_module, "LINGER_SECONDS", linger)
        exporter = Scripted()
        exporter.interval = 0.000_5
        pipeline = a_pipeline(exporter, max_events=8)
        put_all(pipeline, "tool_start")
        puts = 1

        class Abandoned:
            def __init__(self) -> None:
                self.cycle = self

            def __del__(self) -> None:
                nonlocal puts
                puts += 5
                put_all(pipeline, *["llm_chunk", "agent_end", "tool_start", "llm_chunk", "error"])
                pipeline.wake()
                pipeline.stats()

        stop = time.monotonic() + 0.7
        while time.monotonic() < stop:
            gc.disable()
            Abandoned()
            gc.set_threshold(1)  # the worker allocates next, and therefore collects
            gc.enable()
            time.sleep(0.001)
        gc.set_threshold(700)
        gc.collect()
        done = threading.Event()

        def flushing() -> None:
            flush(pipeline)
            done.set()

        threading.Thread(target=flushing, daemon=True).start()
        assert done.wait(SAFETY), "the worker is locked up"
        stats = stats_of(pipeline)
        assert stats.seen == puts
        assert stats.pending == 0
        assert stats.exported == len(exporter)
        pipeline.close(SAFETY)

    @pytest.mark.parametrize("how", ["flush", "close"])
    def test_a_finalizer_on_the_worker_may_flush_and_close(self, how: str) -> None:
        exporter = Scripted()
        pipeline = a_pipeline(exporter)

        class Leaving:
            def __del__(self) -> None:
                getattr(pipeline, how)(100 * SAFETY)

        keep = [Leaving()]
        exporter.behaviour = lambda events: keep.clear()
        put_all(pipeline, "tool_start")
        until(lambda: len(exporter) == 1)
        assert pipeline.close(SAFETY) == {}
        assert exporter.calls[-1] == "close"

    @pytest.mark.parametrize("attribute", ["_counts", "_in_hand", "_tickets"])
    def test_a_signal_handler_may_close_in_the_middle_of_giving_up(self, attribute: str) -> None:
        """A second `close` during the last step of the first one: abandoned events are counted once."""

        class Interrupted(subscription_module.Subscription):
            closing = True

            def __setattr__(self, name: str, value: object) -> None:
                if name == attribute and getattr(self, "armed", False):
                    self.armed = False
                    assert pipeline.close(0.0) is not None
                super().__setattr__(name, value)

        with hung() as (pipeline, _):
            (subscription,) = pipeline._subscriptions
            subscription.__class__ = Interrupted
            pipeline.flush(0.0)
            subscription.armed = True  # type: ignore[attr-defined]
            subscription.abandon()
            stats = stats_of(pipeline)
            assert is_balanced(stats)
            assert (stats.seen, stats.pending, stats.dropped, stats.state) == (1, 0, {"shutdown": 1}, "closed")
