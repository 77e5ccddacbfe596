"""The buffer of one exporter: who is dropped when it is full, what survives an outage, who may call in between."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Sequence

import pytest

from sidestream.errors import ExporterUnavailable
from sidestream.events import StreamEvent
from sidestream.pipeline import channel as channel_module
from sidestream.pipeline.channel import Channel
from sidestream.pipeline.dispatcher import Hub
from tests.support.faulty_exporters import (
    SAFETY,
    Hanging,
    Scripted,
    a_channel,
    an_event,
    away,
    hung,
    is_balanced,
    raising,
    works,
)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "BACKOFF", (0.005, 0.02))


def flush(channel: Channel, timeout: float = SAFETY) -> int:
    deadline = time.monotonic() + timeout
    return channel.wait_flushed(channel.request_flush(), deadline)


def close(channel: Channel, timeout: float = SAFETY) -> None:
    deadline = time.monotonic() + timeout
    channel.request_close()
    channel.wait_closed(deadline)


def put_all(channel: Channel, *kinds: str, size: int = 1) -> list[int]:
    events = [an_event(kind) for kind in kinds]
    for event in events:
        channel.put(event, size)
    return [event.seq for event in events]


class TestOverflow:
    def test_chunks_make_room_for_everything_else(self) -> None:
        with hung(max_events=11) as (channel, exporter):
            put_all(channel, *["llm_chunk"] * 10)
            kept = put_all(channel, *["tool_start"] * 4, *["agent_end"] * 6)
            assert channel.stats().dropped == {"overflow": 10}
            exporter.released.set()
            flush(channel)
            assert exporter.seqs[1:] == kept

    def test_what_is_no_end_makes_room_for_the_ends(self) -> None:
        with hung(max_events=5) as (channel, exporter):
            put_all(channel, *["tool_start"] * 4)
            kept = put_all(channel, "llm_end", "error", "agent_end", "agent_end")
            assert channel.stats().dropped == {"overflow": 4}
            exporter.released.set()
            flush(channel)
            assert exporter.seqs[1:] == kept

    def test_ends_are_kept_up_to_a_second_bound_and_no_further(self) -> None:
        with hung(max_events=10) as (channel, exporter):
            ends = put_all(channel, *["llm_end", "error", "agent_end"] * 10)
            assert channel.stats().pending == 20
            exporter.released.set()
            flush(channel)
            assert exporter.seqs[1:] == ends[:19]

    def test_a_full_buffer_takes_no_more_of_the_same_kind(self) -> None:
        with hung(max_events=4) as (channel, exporter):
            chunks = put_all(channel, *["llm_chunk"] * 10)
            exporter.released.set()
            flush(channel)
            assert exporter.seqs[1:] == chunks[:3]
            assert channel.stats().dropped == {"overflow": 7}

    @pytest.mark.parametrize("kind", ["llm_chunk", "tool_start", "agent_end"])
    def test_the_bytes_that_wait_are_bounded_for_every_kind(self, kind: str) -> None:
        with hung(max_events=10_000, max_bytes=1_000_000) as (channel, _):
            put_all(channel, *[kind] * 500, size=50_000)
            assert channel.stats().pending * 50_000 <= 2_000_000 + 50_000

    def test_what_has_been_delivered_makes_room_again(self) -> None:
        channel = a_channel(Scripted(), max_events=8, max_bytes=1_000)
        for _ in range(10):
            put_all(channel, *["tool_start"] * 3, size=300)
            assert flush(channel) == 0
        assert channel.stats().dropped == {}
        close(channel)

    def test_an_event_larger_than_the_bound_is_taken_when_nothing_waits(self) -> None:
        exporter = Scripted()
        channel = a_channel(exporter, max_bytes=1_000)
        put_all(channel, "tool_start", size=5_000)
        assert flush(channel) == 0
        assert len(exporter) == 1
        close(channel)

    def test_an_event_that_can_never_fit_drives_out_no_other(self) -> None:
        with hung(max_bytes=1_000) as (channel, _):
            put_all(channel, *["llm_chunk"] * 5, size=10)
            put_all(channel, "tool_start", size=5_000)
            assert channel.stats().pending == 6
            assert channel.stats().dropped == {"overflow": 1}

    def test_the_order_of_what_is_kept_is_the_order_in_which_it_came(self) -> None:
        with hung(max_events=1_000) as (channel, exporter):
            came = put_all(channel, *["llm_chunk", "agent_end", "tool_start", "llm_chunk", "error"] * 150)
            exporter.released.set()
            flush(channel)
            assert exporter.seqs[1:] == came

    def test_a_buffer_that_fills_up_wakes_the_worker_before_its_interval_is_over(self) -> None:
        for _ in range(50):
            exporter = Scripted()
            exporter.interval = 10 * SAFETY
            channel = a_channel(exporter, max_events=100)
            put_all(channel, *["tool_start"] * 60)
            deadline = time.monotonic() + SAFETY
            while not len(exporter):
                assert time.monotonic() < deadline, "the worker sleeps on"
                time.sleep(0.000_5)
            close(channel)

    def test_types_in_skip_are_not_offered_and_not_counted(self) -> None:
        exporter = Scripted()
        exporter.skip = frozenset({"llm_chunk"})
        channel = a_channel(exporter)
        kept = put_all(channel, "llm_chunk", "tool_start", "llm_chunk")[1:2]
        flush(channel)
        assert exporter.seqs == kept
        assert channel.stats().seen == 1
        close(channel)


class TestOutage:
    def test_what_an_unavailable_exporter_refused_comes_again_once_and_in_order(self) -> None:
        exporter = Scripted(away)
        channel = a_channel(exporter)
        came = put_all(channel, *["llm_chunk", "agent_end", "tool_start"] * 100)
        while channel.stats().failures < 3:
            time.sleep(0.005)
        assert channel.stats().state == "failing"
        came += put_all(channel, *["llm_chunk", "agent_end"] * 100)
        exporter.behaviour = works
        assert flush(channel) == 0
        assert exporter.seqs == came
        assert channel.stats().state == "ok"
        assert channel.stats().dropped == {}
        close(channel)

    def test_start_is_tried_again_where_the_sink_was_away_then(self) -> None:
        class LateStarter(Scripted):
            def start(self) -> None:
                super().start()
                if len(self.calls) < 3:
                    raise ExporterUnavailable("not yet")

        exporter = LateStarter()
        channel = a_channel(exporter)
        came = put_all(channel, "tool_start", "tool_start")
        assert flush(channel) == 0
        assert exporter.seqs == came
        assert exporter.calls[:4] == ["start", "start", "start", "export"]
        close(channel)

    def test_a_batch_that_raised_is_lost_and_the_next_is_not(self) -> None:
        exporter = Scripted(raising(ValueError("no")))
        channel = a_channel(exporter)
        put_all(channel, "tool_start")
        assert flush(channel) == 0
        exporter.behaviour = works
        came = put_all(channel, "tool_start")
        assert flush(channel) == 0
        assert exporter.seqs == came
        stats = channel.stats()
        assert (stats.dropped, stats.failures, stats.last_error) == ({"error": 1}, 1, "ValueError")
        close(channel)

    def test_an_exporter_that_keeps_failing_is_left_alone_for_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(channel_module, "BACKOFF", (SAFETY, SAFETY))
        exporter = Scripted(raising(ValueError("no")))
        channel = a_channel(exporter)
        for _ in range(3 * channel_module.FAILURES_TO_OPEN):
            put_all(channel, "tool_start")
            time.sleep(0.01)
        assert channel.stats().failures == channel_module.FAILURES_TO_OPEN
        assert channel.stats().pending > 0
        close(channel)

    def test_a_flush_that_timed_out_shortens_no_pause_after_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(channel_module, "BACKOFF", (0.005, SAFETY))
        exporter = Scripted(away)
        channel = a_channel(exporter)
        put_all(channel, "tool_start")
        assert flush(channel, 0.15) == 1
        failures = channel.stats().failures
        time.sleep(0.15)
        assert channel.stats().failures <= failures + 1
        close(channel)

    def test_losses_that_cannot_be_count_as_an_error_of_the_exporter(self) -> None:
        for lost in ({"rejected": 5}, {"rejected": -1}, {"rejected": "all"}):
            channel = a_channel(Scripted(lambda events, lost=lost: lost))  # type: ignore[misc]
            put_all(channel, "tool_start")
            flush(channel)
            assert channel.stats().dropped == {"error": 1}
            assert is_balanced(channel.stats())
            close(channel)


class TestLife:
    def test_an_exporter_is_started_once_and_closed_once_after_a_last_flush(self) -> None:
        exporter = Scripted()
        channel = a_channel(exporter)
        put_all(channel, "tool_start")
        close(channel)
        close(channel)
        assert exporter.calls == ["start", "export", "flush", "close"]

    def test_an_exporter_that_got_nothing_is_neither_started_nor_closed(self) -> None:
        exporter = Scripted()
        channel = a_channel(exporter)
        assert flush(channel) == 0
        close(channel)
        assert exporter.calls == []

    def test_flush_reaches_the_exporter_though_nothing_is_pending(self) -> None:
        exporter = Scripted()
        channel = a_channel(exporter)
        put_all(channel, "tool_start")
        flush(channel)
        flush(channel)
        assert exporter.calls == ["start", "export", "flush", "flush"]
        close(channel)

    def test_flush_ends_though_events_keep_coming(self) -> None:
        exporter = Scripted()
        channel = a_channel(exporter)
        exporter.behaviour = lambda events: channel.put(an_event(), 1)
        came = put_all(channel, *["tool_start"] * 200)
        channel.request_flush().done.get(timeout=SAFETY / 4)
        assert set(came) <= set(exporter.seqs)
        close(channel)

    def test_an_idle_worker_wakes_for_an_event(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(channel_module, "IDLE_ROUNDS", 0)
        exporter = Scripted()
        channel = a_channel(exporter)
        for total in range(1, 200):
            put_all(channel, "tool_start")
            deadline = time.monotonic() + SAFETY
            while len(exporter) < total:
                assert time.monotonic() < deadline, f"event {total} was never delivered"
                time.sleep(0.000_2)
        close(channel)

    def test_an_abandoned_exporter_is_closed_when_it_comes_back(self) -> None:
        with hung() as (channel, exporter):
            close(channel, 0.01)
            assert channel.stats().dropped == {"shutdown": 1}
            exporter.released.set()
            assert channel._thread is not None
            channel._thread.join(SAFETY)
            assert exporter.calls == ["start", "export", "flush", "close"]
            assert channel.stats().dropped == {"shutdown": 1}
            assert is_balanced(channel.stats())

    def test_an_exporter_may_close_its_own_channel(self) -> None:
        exporter = Scripted()
        channel = a_channel(exporter)
        exporter.behaviour = lambda events: close(channel)
        put_all(channel, "tool_start")
        assert channel._thread is not None
        channel._thread.join(SAFETY)
        assert not channel._thread.is_alive()
        assert is_balanced(channel.stats())

    def test_a_thread_that_cannot_be_started_costs_the_events_and_nothing_else(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

        channel = a_channel(Scripted())
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            put_all(channel, "tool_start", "tool_start")
            assert flush(channel) == 0
            assert channel.stats().pending == 2
            close(channel)
        assert channel.stats().dropped == {"shutdown": 2}


class TestCallerIsLeftAlone:
    def test_put_calls_neither_the_exporter_nor_logging(self, monkeypatch: pytest.MonkeyPatch) -> None:
        here = threading.get_ident()
        intruders: list[str] = []

        class Watchful(Scripted):
            def export(self, events: Sequence[StreamEvent]) -> None:  # type: ignore[override]
                if threading.get_ident() == here:
                    intruders.append("export")
                raise ValueError("no")

        def handle(record: logging.LogRecord) -> None:
            if threading.get_ident() == here:
                intruders.append(record.getMessage())

        monkeypatch.setattr(logging.getLogger("sidestream"), "handle", handle)
        channel = a_channel(Watchful(), max_events=50)
        for _ in range(300):
            put_all(channel, "llm_chunk", "agent_end")
            time.sleep(0.000_1)
        close(channel)
        assert sum(channel.stats().dropped.values()) == 600
        assert intruders == []

    def test_put_does_not_wait_for_whoever_holds_the_books(self) -> None:
        channel = a_channel(Scripted())
        put_all(channel, "tool_start")
        flush(channel)
        held, release = threading.Event(), threading.Event()
        waited_for = []

        def hold() -> None:
            with channel._change():
                held.set()
                waited_for.append(release.wait(SAFETY / 4))

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(SAFETY)
        put_all(channel, *["tool_start"] * 200)
        release.set()
        holder.join()
        assert waited_for == [True], "the holder gave up before put did"
        assert flush(channel) == 0
        assert channel.stats().exported == 201
        close(channel)

    def test_a_hanging_exporter_starves_no_other(self) -> None:
        hanging, healthy = Hanging(), Scripted()
        hub = Hub([hanging, healthy], max_events=100, max_bytes=10**9, redact=None)
        for _ in range(1_000):
            hub.put(an_event("agent_end"))
            if hub.stats()["scripted"].pending > 50:
                time.sleep(0.002)
        lacking = hub.flush(0.2)
        assert lacking.keys() == {"hanging"}
        assert len(healthy) == 1_000
        busy = hub.stats()["hanging"].busy_seconds
        assert busy is not None
        assert busy > 0
        hanging.released.set()
        hub.close(SAFETY)


class TestReentrance:
    """The collector runs finalizers in any thread, between any two bytecodes, and those end runs."""

    @pytest.mark.parametrize("idle_rounds", [0, 10])
    def test_events_put_by_the_garbage_collector_are_counted_and_nobody_waits_for_himself(
        self, monkeypatch: pytest.MonkeyPatch, idle_rounds: int
    ) -> None:
        monkeypatch.setattr(channel_module, "IDLE_ROUNDS", idle_rounds)
        exporter = Scripted()
        exporter.interval = 0.000_5
        channel = a_channel(exporter, max_events=8)
        put_all(channel, "tool_start")
        puts = 1

        class Abandoned:
            def __init__(self) -> None:
                self.cycle = self

            def __del__(self) -> None:
                nonlocal puts
                puts += 5
                put_all(channel, *["llm_chunk", "agent_end", "tool_start", "llm_chunk", "error"])

        gc.collect()
        before = gc.get_threshold()
        try:
            until = time.monotonic() + 0.7
            while time.monotonic() < until:
                gc.disable()
                Abandoned()
                gc.set_threshold(1)  # the worker, which allocates next, is the one to collect
                gc.enable()
                time.sleep(0.001)
        finally:
            gc.set_threshold(*before)
            gc.enable()
            gc.collect()
        done = threading.Event()
        threading.Thread(target=lambda: (flush(channel), done.set()), daemon=True).start()
        assert done.wait(SAFETY), "the worker is locked up"
        stats = channel.stats()
        assert stats.seen == puts
        assert stats.pending == 0
        assert stats.exported == len(exporter)
        close(channel)

    def test_a_put_in_the_middle_of_a_change_is_taken_in_after_it(self) -> None:
        channel = a_channel(Scripted(), max_events=1)
        with channel._change():
            put_all(channel, *["tool_start"] * 3)
            assert channel._waiting == 0
        assert channel.stats().seen == 3
        close(channel)

    def test_a_signal_handler_may_look_flush_and_close_in_the_middle_of_a_change(self) -> None:
        exporter = Scripted()
        exporter.interval = SAFETY
        channel = a_channel(exporter)
        put_all(channel, *["tool_start"] * 100)
        with channel._change():
            assert is_balanced(channel.stats())
            assert flush(channel) == 0
            assert len(exporter) >= 96  # all that had been sorted in before the change
            put_all(channel, "agent_end")
            close(channel)
        stats = channel.stats()
        assert is_balanced(stats)
        assert (stats.seen, stats.pending, stats.state) == (101, 0, "closed")
        assert stats.exported == len(exporter)
