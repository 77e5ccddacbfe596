"""State that a forwarder keeps across restarts."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestream.errors import ExporterUnavailable
from sidestream.events import StreamEvent, encode_line
from sidestream.log.forwarding.checkpoint import Checkpoint
from sidestream.log.forwarding.delivery import Delivery
from sidestream.log.forwarding.follow import Follower
from sidestream.log.forwarding.forwarder import Forwarder, State
from sidestream.pipeline.yielding import GilYielder
from sidestream_exporters import PrometheusExporter
from tests.support.forwarded_logs import Writer, ids, run_of, write
from tests.support.recording_sinks import Sink


class Counts(Sink):
    """Exporter that counts ends of runs, with a counter that survives a restart."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = 0
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def export(self, events: Sequence[StreamEvent]) -> None:
        self.calls.append("export")
        super().export(events)
        self.ended += sum(event.event_type == "agent_end" for event in events)

    def dump_state(self) -> Any:
        return self.ended

    def load_state(self, state: Any) -> None:
        self.calls.append("load_state")
        self.ended = state


class Life:
    """One process lifetime of a collector, with a checkpoint shared by all of them."""

    def __init__(self, folder: Path, exporter: Any, spec: str = "counts") -> None:
        self.exporter = exporter
        self.checkpoint = Checkpoint(folder / "state.json", State)
        delivery = Delivery(exporter, stop=threading.Event())
        self.forwarder = Forwarder(Follower(folder / "runs"), delivery, spec=spec, checkpoint=self.checkpoint)

    def __enter__(self) -> Life:
        self.forwarder.load()
        try:
            self.forwarder.resume()
        except BaseException:
            self.checkpoint.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.checkpoint.close()  # as the end of a process does


def test_an_endpoint_opens_once_its_counters_are_restored(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "1.jsonl", run_of("a"))
    with Life(tmp_path, Counts()) as life:
        life.forwarder.forward()
    write(tmp_path / "runs" / "1.jsonl", run_of("b"))
    with Life(tmp_path, Counts()) as life:
        life.forwarder.forward()
    assert life.exporter.calls == ["load_state", "export", "start"]
    assert life.exporter.ended == 2


def test_a_lost_run_is_ended_again_before_the_endpoint_opens(tmp_path: Path) -> None:
    """The collector is killed after it counted a lost run, and before the checkpoint was saved."""
    write(tmp_path / "runs" / "1.jsonl", run_of("a", ended=False))
    with Life(tmp_path, Counts()) as life:
        life.forwarder.forward()
        life.forwarder.end_lost_runs()
        assert life.exporter.ended == 1
    with Life(tmp_path, Counts()) as life:
        life.forwarder.forward()
    assert life.exporter.ended == 1
    assert life.exporter.calls[-2:] == ["export", "start"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_lost_run_that_continues_is_exported_to_its_end(tmp_path: Path, restarted: bool) -> None:
    """The run is opened again for an exporter that has closed it; earlier events are not exported twice."""
    run = run_of("a")
    write(tmp_path / "runs" / "1.jsonl", run[:3])
    with Life(tmp_path, Counts()) as life:
        life.forwarder.forward()
        life.forwarder.end_lost_runs()
        exported = life.exporter.events
        assert [event.data.outcome for event in exported if event.event_type == "agent_end"] == ["lost"]
        if not restarted:
            write(tmp_path / "runs" / "1.jsonl", run[3:])
            life.forwarder.forward()
            exported = life.exporter.events[4:]
    if restarted:
        write(tmp_path / "runs" / "1.jsonl", run[3:])
        with Life(tmp_path, Counts()) as life:
            life.forwarder.forward()
            exported = life.exporter.events
    assert ids(exported) == ids([run[0], *run[3:]])
    assert exported[-1].data.outcome == "completed"
    assert life.forwarder.duplicates == 0


def test_lines_of_a_lost_run_that_are_there_twice_do_not_bring_it_back(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "1.jsonl", run_of("a", ended=False))
    with Life(tmp_path, Counts()) as life:
        life.forwarder.forward()
        life.forwarder.end_lost_runs()
        write(tmp_path / "runs" / "2.jsonl", [*run_of("b"), *run_of("a", ended=False)])
        life.forwarder.forward()
        assert life.exporter.ended == 2
        assert life.forwarder.lost_runs == 1
        assert life.forwarder.duplicates == len(run_of("a", ended=False))


def test_prometheus_goes_on_counting(tmp_path: Path) -> None:
    log = tmp_path / "runs"
    writer = Writer(log / "1.jsonl")
    running = run_of("running")

    def page(exporter: PrometheusExporter) -> dict[str, float]:
        lines = exporter.render()[0].decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line.startswith(("sidestream_", "gen_ai_")))
        return {name: float(value) for name, value in pairs}

    with Life(tmp_path, PrometheusExporter(None), "prometheus") as life:
        writer.write(b"".join(map(encode_line, [*run_of("a"), *running[:4]])))
        life.forwarder.forward()
        before = page(life.exporter)
        writer.write(b"".join(map(encode_line, [*run_of("b"), *running[4:6]])))
        life.forwarder.take(run_of("b"))  # counted, and killed before the checkpoint
    with Life(tmp_path, PrometheusExporter(None), "prometheus") as life:
        life.forwarder.forward()
        again = page(life.exporter)
    writer.write(b"".join(map(encode_line, running[6:])))
    writer.die()
    with Life(tmp_path, PrometheusExporter(None), "prometheus") as life:
        life.forwarder.forward()
        last = page(life.exporter)
    once = PrometheusExporter(None)
    once.export([*run_of("a"), *running, *run_of("b")])
    in_progress = 'sidestream_runs_in_progress{agent="clerk",model="gpt-4o"}'
    assert before[in_progress] == again[in_progress] == 1
    assert all(again[name] >= value for name, value in before.items())
    gaps = "gen_ai_client_operation_time_per_output_chunk"
    whole = {name: value for name, value in page(once).items() if gaps not in name}
    assert {name: value for name, value in last.items() if gaps not in name} == pytest.approx(whole)


class Killed(BaseException):
    """End of a process in the middle of an export."""


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.lists(st.sampled_from(["write", "write", "look", "killed"]), max_size=25))
def test_killed_at_any_moment_every_event_arrives_and_each_end_counts_once(seed: int, steps: list[str]) -> None:
    chance = random.Random(seed)
    with TemporaryDirectory() as name:
        folder = Path(name)
        log = Writer(folder / "runs" / "1.jsonl")
        events = [event for number in range(20) for event in run_of(f"run-{number}")]
        written, arrived, visible = 0, set(), 0
        for step in [*steps, "look"]:
            if step == "write":
                count = chance.randint(1, 12)
                log.write(b"".join(map(encode_line, events[written : written + count])))
                written += count
                continue
            exporter = Counts()
            if step == "killed":

                def die() -> None:
                    if chance.random() < 0.5:
                        raise Killed

                exporter.before_export = die
            with suppress(Killed), Life(folder, exporter) as life:
                life.forwarder.forward()
            arrived |= set(exporter.ids)
            if "start" in exporter.calls:
                assert exporter.ended >= visible, "what is asked never falls back"
                visible = exporter.ended
        log.die()
        assert arrived == set(ids(events[:written]))
        assert visible == sum(event.event_type == "agent_end" for event in events[:written])


class NeverOpens(Counts):
    """Exporter whose port is taken."""

    def start(self) -> None:
        raise ExporterUnavailable("address in use")


def test_events_of_an_endpoint_that_never_opened_are_pending(tmp_path: Path) -> None:
    """Events that nobody could scrape are pending. They are counted again after a restart, so that none is lost."""
    write(tmp_path / "runs" / "1.jsonl", run_of("a"))
    stop = threading.Event()
    delivery = Delivery(NeverOpens(), stop=stop, patience=0.0)
    forwarder = Forwarder(Follower(tmp_path / "runs"), delivery, spec="counts")
    assert not forwarder.forward()
    stats = delivery.stats()
    assert (stats.seen, stats.exported, stats.pending) == (9, 0, 9)


def test_a_forwarded_log_is_exported_without_pauses_for_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sink = Sink()
    yielder = GilYielder()

    def slice_is_over() -> None:
        yielder._until = 0.0
        yielder.maybe_yield()

    sink.before_export = slice_is_over
    monkeypatch.setattr(time, "sleep", pauses.append)
    slice_is_over()
    assert len(pauses) == 1
    Delivery(sink, stop=threading.Event()).deliver(run_of("a"))
    assert sink.events
    assert len(pauses) == 1
