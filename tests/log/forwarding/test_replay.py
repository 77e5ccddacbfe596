"""Replay of a log: selected events are exported once, with exact statistics."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from sidestream import ConfigurationError, InMemoryExporter
from sidestream.events import encode_line
from sidestream.log import Filter
from sidestream.log.forwarding.collect import Collector
from sidestream.log.forwarding.replay import ReplayPlan, replay
from sidestream_exporters.jsonl import JSONLExporter
from tests.support.forwarded_logs import Writer, ids, run_of, spans_of, write
from tests.support.recording_sinks import Recorded, Sink, stops_after

QUICK = (0.01, 0.02)


def test_everything_is_exported_in_order_with_its_times(tmp_path: Path) -> None:
    first, second = run_of("a"), run_of("b", after=60)
    write(tmp_path / "1.jsonl", first)
    write(tmp_path / "2.jsonl", second)
    sink = Sink()
    done = replay(tmp_path, sink)
    assert sink.events == [*first, *second]
    assert (sink.started, sink.closed) == (1, 1)
    assert sink.flushed >= 1
    assert done.complete
    assert (done.runs, done.events, done.chosen, done.exported, done.dropped, done.pending) == (2, 18, 18, 18, {}, 0)


def test_a_run_that_is_there_twice_is_exported_once(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", run_of("a"))
    write(tmp_path / "2.jsonl", [*run_of("b"), *run_of("a"), *run_of("b")])
    sink = Sink()
    done = replay(tmp_path, sink)
    assert sorted(sink.ids) == sorted(ids(run_of("a")) + ids(run_of("b")))
    assert done.duplicates == 18


def test_pieces_of_one_chunk_are_all_exported(tmp_path: Path) -> None:
    """Pieces of a chunk share its sequence number with `chunks=all`."""
    events = run_of("a")
    chunk = next(event for event in events if event.event_type == "llm_chunk")
    at = events.index(chunk)
    write(tmp_path / "1.jsonl", [*events[:at], chunk, chunk, chunk, *events[at + 1 :]])
    sink = Sink()
    replay(tmp_path, sink)
    assert len(sink.events) == len(events) + 2


def test_only_selected_runs_are_exported(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", [*run_of("a"), *run_of("b", agent="other"), *run_of("c", after=3600)])
    sink = Sink()
    done = replay(tmp_path, sink, ReplayPlan(where=Filter.parse(agents=["clerk"], since="2026-11-20T10:00+00:00")))
    assert sink.events == run_of("c", after=3600)
    assert (done.events, done.chosen, done.exported, done.runs, done.runs_sent) == (27, 9, 9, 3, 1)


def test_content_obeys_the_exporters_policy(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", run_of("a"))
    memory = InMemoryExporter(content="none")
    replay(tmp_path, memory)
    assert [event.data.prompt for event in memory.of("agent_start")] == [None]


def test_an_exporter_that_is_away_is_waited_for(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", run_of("a"))
    sink, waits = Sink(away=3), []
    done = replay(tmp_path, sink, ReplayPlan(backoff=QUICK), on_wait=lambda: waits.append(1))
    assert sink.events == run_of("a")
    assert done.exported == 9
    assert len(waits) == 3


def test_one_that_stays_away_is_given_up_and_what_it_lacks_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", run_of("a"))
    done = replay(tmp_path, Sink(away=10**9), ReplayPlan(backoff=QUICK, patience=0.05))
    assert not done.complete
    assert (done.chosen, done.exported, done.pending) == (9, 0, 9)


def test_what_an_exporter_loses_is_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", [event for number in range(60) for event in run_of(f"run-{number}")])
    sink, calls = Sink(), []

    def fail_once() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("a bug of the exporter's")

    sink.before_export = fail_once
    done = replay(tmp_path, sink)
    assert done.complete
    assert done.dropped == {"error": 256}
    assert done.exported == len(sink.events) == 540 - 256


def test_a_dry_run_counts_and_exports_nothing(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", run_of("a"))
    sink = Sink()
    done = replay(tmp_path, sink, ReplayPlan(dry_run=True))
    assert (done.runs, done.chosen, done.exported) == (1, 9, 0)
    assert (sink.started, sink.events) == (0, [])


# --- runs without an end ---------------------------------------------------------------------------------------------


def test_a_run_whose_writer_is_gone_ends_as_lost(tmp_path: Path) -> None:
    run = run_of("a", ended=False)
    write(tmp_path / "1.jsonl", run)
    sink = Sink()
    done = replay(tmp_path, sink)
    *others, end = sink.events
    assert others == run
    assert (end.event_type, end.data.outcome, end.data.success, end.seq) == ("agent_end", "lost", False, len(run))
    assert (end.timestamp, end.data.duration_seconds) == (run[-1].timestamp, run[-1].offset)
    assert end.data.usage is None, "nobody knows what it used in all"
    assert done.lost_runs == 1


def test_a_run_whose_writer_is_alive_goes_on(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "1.jsonl")
    writer.write(b"".join(map(encode_line, run_of("a", ended=False, pid=os.getpid()))))
    sink = Sink()
    done = replay(tmp_path, sink)
    writer.die()
    assert sink.events == run_of("a", ended=False, pid=os.getpid())
    assert done.lost_runs == 0


def test_a_copy_of_the_log_has_no_lost_end(tmp_path: Path) -> None:
    """The log itself never holds an end with outcome `lost`."""
    write(tmp_path / "1.jsonl", run_of("a", ended=False))
    sink = Sink()
    sink.durable = True
    replay(tmp_path, sink)
    assert sink.events == run_of("a", ended=False)


# --- resuming --------------------------------------------------------------------------------------------------------


def test_an_interrupted_replay_is_resumed_where_it_was(tmp_path: Path) -> None:
    """At most one block is exported again after an interruption."""
    log = tmp_path / "log"
    events = [event for number in range(400) for event in run_of(f"run-{number}", tools=5)]
    write(log / "1.jsonl", events)
    stop, first = threading.Event(), Sink()
    first.before_export = stops_after(stop, 6)
    done = replay(log, first, ReplayPlan(resume=tmp_path / "state"), spec="sink", stop=stop)
    assert not done.complete
    assert 0 < len(first.events) < len(events)
    second = Sink()
    done = replay(log, second, ReplayPlan(resume=tmp_path / "state"), spec="sink")
    assert done.complete
    # Start events of runs in progress are exported again, and no others.
    before = set(first.ids)
    again = [event for event in second.events if (event.run_id, event.seq) in before]
    assert {event.event_type for event in again} <= {"agent_start", "llm_start", "tool_start"}
    assert len(again) <= 3
    assert sorted(set(first.ids + second.ids)) == sorted(ids(events))
    third = Sink()
    replay(log, third, ReplayPlan(resume=tmp_path / "state"), spec="sink")
    assert third.events == []


def test_a_log_may_be_called_anything_the_system_allows(tmp_path: Path) -> None:
    """The name of a file with a run in progress is part of the state."""
    try:
        writer = Writer(tmp_path / "log" / os.fsdecode(b"odd-\xff.jsonl"))
    except OSError:
        pytest.skip("file names must be UTF-8 here")
    run = run_of("a", pid=os.getpid())
    writer.write(b"".join(map(encode_line, run[:-1])))
    first, second = Sink(), Sink()
    replay(tmp_path / "log", first, ReplayPlan(resume=tmp_path / "state"), spec="sink")
    writer.write(encode_line(run[-1]))
    replay(tmp_path / "log", second, ReplayPlan(resume=tmp_path / "state"), spec="sink")
    writer.die()
    assert first.events == run[:-1]
    assert second.events == [run[0], run[-1]], "a new exporter gets the start of the run that it ends"


def test_the_state_of_another_exporter_is_not_taken(tmp_path: Path) -> None:
    write(tmp_path / "log" / "1.jsonl", run_of("a"))
    replay(tmp_path / "log", Sink(), ReplayPlan(resume=tmp_path / "state"), spec="one")
    other = Sink()
    replay(tmp_path / "log", other, ReplayPlan(resume=tmp_path / "state"), spec="other")
    assert other.events == run_of("a")


def test_the_original_pace_is_kept(tmp_path: Path) -> None:
    """Events of several files are replayed in order of time."""
    write(tmp_path / "1.jsonl", [*run_of("a"), *run_of("c", after=2)])
    write(tmp_path / "2.jsonl", run_of("b", after=1))
    sink, begun = Sink(), time.monotonic()
    done = replay(tmp_path, sink, ReplayPlan(speed=10))
    assert time.monotonic() - begun >= 0.27, "2.8 seconds, ten times as fast"
    assert sink.ids == ids([*run_of("a"), *run_of("b"), *run_of("c")])
    assert done.complete


# --- only missing events ---------------------------------------------------------------------------------------------


def test_only_what_the_record_lacks(tmp_path: Path) -> None:
    """Missing are the second request and the run itself of `partly`, nothing of `whole`, and all of `none`."""
    partly, whole, none = run_of("partly"), run_of("whole"), run_of("none")
    write(tmp_path / "1.jsonl", [*partly, *whole, *none])
    sink = Recorded({"partly": {1, 3}, "whole": {0, 1, 3, 5}})
    done = replay(tmp_path, sink, ReplayPlan(only_missing=True))
    types = [event.event_type for event in sink.events if event.run_id == "partly"]
    assert types == ["agent_start", "llm_start", "llm_chunk", "llm_end", "agent_end"]
    assert sink.ids[len(types) :] == ids(none)
    assert done.delivered_before + done.exported == done.events


@pytest.mark.parametrize("exporter", [Sink(), Recorded(None)])
def test_only_missing_needs_a_record(exporter: Sink, tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", run_of("a"))
    with pytest.raises(ConfigurationError, match="keeps no record of deliveries"):
        replay(tmp_path, exporter, ReplayPlan(only_missing=True))


@pytest.mark.parametrize("options", [{"speed": 0.0}, {"speed": 1.0, "resume": "state"}])
def test_an_invalid_plan_is_refused(options: dict[str, object], tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", run_of("a"))
    with pytest.raises(ConfigurationError):
        ReplayPlan(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("read", "written"),
    [
        ("runs/", "runs/"),
        ("runs/a.jsonl", "runs/a.jsonl"),
        ("runs/*.jsonl", "runs/"),
        ("runs/", "runs/copy.jsonl"),
        ("linked/", "runs/"),
    ],
)
def test_a_log_is_not_exported_into_itself(read: str, written: str, tmp_path: Path) -> None:
    file = write(tmp_path / "runs" / "a.jsonl", run_of("a"))
    (tmp_path / "linked").symlink_to(tmp_path / "runs")
    before = file.read_bytes()
    with pytest.raises(ConfigurationError, match="is the log being read"):
        replay(f"{tmp_path}/{read}", JSONLExporter(f"{tmp_path}/{written}"))
    with pytest.raises(ConfigurationError, match="is the log being read"):
        Collector(f"{tmp_path}/{read}", [f"jsonl:{tmp_path}/{written}"], tmp_path / "checkpoint")
    assert file.read_bytes() == before
    assert [each.name for each in (tmp_path / "runs").iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("written", ["copy/", "runs/copy/", "copy.jsonl"])
def test_a_log_is_exported_to_any_other_place(written: str, tmp_path: Path) -> None:
    write(tmp_path / "runs" / "a.jsonl", run_of("a"))
    done = replay(tmp_path / "runs", JSONLExporter(f"{tmp_path}/{written}"))
    assert (done.exported, done.runs_sent) == (9, 1)


def test_a_log_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no log at"):
        replay(tmp_path / "nowhere", Sink())


def test_made_up_runs_have_as_many_spans_as_is_said() -> None:
    begins = [event for event in run_of("a", tools=3) if event.event_type in ("agent_start", "llm_start", "tool_start")]
    assert len(begins) == spans_of(tools=3)
