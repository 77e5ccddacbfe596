"""Summaries of runs: outcome, totals and completeness."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest

from sidestream import ConfigurationError, log
from sidestream.events import AgentEnd, AgentStart, LLMEnd, LLMStart, StreamEvent, Usage
from sidestream_exporters.jsonl import JSONLExporter
from tests.support.log_builder import BEGIN, lines, run_events, sequence, write
from tests.support.paths import ROOT
from tests.support.run_events import chunk


def test_a_run_that_has_ended(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", run_events("one", tags={"env": "test"}, conversation_id="c1", trace_id="ab" * 16))
    (run,) = log.runs(tmp_path)
    assert msgspec.to_builtins(run, builtin_types=(type(BEGIN),)) == {
        "run_id": "one",
        "agent_name": "support",
        "outcome": "completed",
        "success": True,
        "started": BEGIN,
        "ended": BEGIN + timedelta(seconds=1.5),
        "duration_seconds": 1.5,
        "model": "gpt-4o",
        "models": ["gpt-4o"],
        "providers": ["openai"],
        "root_run_id": "one",
        "conversation_id": "c1",
        "trace_id": "ab" * 16,
        "tags": {"env": "test"},
        "exception_type": "KeyError",
        "error_where": "tool",
        "errors": 1,
        "requests": 2,
        "tool_calls": 1,
        "tools": ["look_up"],
        "retries": 1,
        "usage": {"input_tokens": 300, "output_tokens": 100},
        "total_tokens": 400,
        "cost_usd": 0.03,
        "time_to_first_token_seconds": 0.1,
        "events": 16,
        "chunks": 3,
        "files": [str(tmp_path / "a.jsonl")],
    }


def test_a_run_without_an_end_has_the_totals_of_what_is_there(tmp_path: Path) -> None:
    """Totals of a run without an end are lower bounds."""
    write(tmp_path / "a.jsonl", run_events("one", ended=False)[:12])
    (run,) = log.runs(tmp_path)
    assert (run.outcome, run.success, run.requests, run.tool_calls, run.retries) == ("lost", False, 2, 1, 1)
    assert (run.total_tokens, run.cost_usd, run.duration_seconds) == (200, 0.01, 1.1)
    assert run.ended == BEGIN + timedelta(seconds=1.1)  # the last event was a chunk


def test_unknown_is_not_zero(tmp_path: Path) -> None:
    payloads = [
        AgentStart(root_run_id="one"),
        LLMStart(request=1, model="m", streaming=False),
        LLMEnd(request=1, outcome="ok", duration_seconds=1.0, usage_source="none"),
    ]
    write(tmp_path / "a.jsonl", sequence(payloads, "one"))
    (run,) = log.runs(tmp_path)
    assert (run.cost_usd, run.usage, run.total_tokens, run.time_to_first_token_seconds) == (None, None, None, None)


def test_runs_are_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [*run_events("late", minutes=5), *run_events("early", minutes=1)])
    write(tmp_path / "b.jsonl", run_events("between", minutes=3))
    assert [run.run_id for run in log.runs(tmp_path)] == ["early", "between", "late"]


def test_a_run_may_be_spread_over_files(tmp_path: Path) -> None:
    events = run_events("one")
    write(tmp_path / "b.jsonl", events[:5])
    write(tmp_path / "a.jsonl.gz", events[5:11])
    write(tmp_path / "c.jsonl", events[11:])
    (run,) = log.runs(tmp_path)
    assert (run.outcome, run.events, run.missing, run.chunks, run.errors) == ("completed", 16, 0, 3, 1)
    assert [Path(file).name for file in run.files] == ["b.jsonl", "a.jsonl.gz", "c.jsonl"]


def test_missing_events_are_counted(tmp_path: Path) -> None:
    events = [event for event in run_events("one") if event.seq not in (2, 10, 11)]
    write(tmp_path / "a.jsonl", events)
    (run,) = log.runs(tmp_path)
    assert (run.events, run.missing, run.chunks, run.duplicates) == (13, 3, 0, 0)


@pytest.mark.parametrize("spread", ["a b", "a a", "a a b"])
def test_duplicate_lines_count_once(tmp_path: Path, spread: str) -> None:
    """Duplicates in one file, as after a replay, or in two, as after a copy."""
    names = spread.split()
    for name in names:
        with open(tmp_path / f"{name}.jsonl", "ab") as file:
            file.writelines(lines(run_events("one")))
    (run,) = log.runs(tmp_path)
    assert (run.events, run.missing, run.duplicates) == (16, 0, 16 * (len(names) - 1))
    assert (run.errors, run.cost_usd, run.requests) == (1, 0.03, 2)
    statistics = log.statistics(tmp_path)
    assert (statistics.by_model[0].count, statistics.by_tool[0].count) == (2, 1)
    assert len(log.load_run(tmp_path, "one").events) == 16


def test_lines_of_one_chunk_share_its_number(tmp_path: Path) -> None:
    """With `chunks=all`, one event is several lines, and none of them is a duplicate."""
    exporter = JSONLExporter(tmp_path / "a.jsonl", chunks="all")
    exporter.start()
    exporter.export(run_events("one"))
    exporter.close()
    (run,) = log.runs(tmp_path)
    assert (run.events, run.chunks, run.missing, run.duplicates) == (16, 6, 0, 0)
    steps = log.load_run(tmp_path, "one").steps
    assert [delta.text for step in steps for part in step.parts for delta in part.deltas] == [
        '{"order"',
        ': "4711"}',
        "It ",
        "left ",
        "on Mon",
        "day.",
    ]


def test_pieces_that_came_at_once_and_say_the_same_are_all_kept(tmp_path: Path) -> None:
    same = msgspec.structs.replace(chunk("ha", "ha", "ha"), offsets_us=[0, 0, 0])
    exporter = JSONLExporter(tmp_path / "a.jsonl", chunks="all")
    exporter.start()
    exporter.export(sequence([AgentStart(root_run_id="one"), same], "one"))
    exporter.close()
    run = log.load_run(tmp_path, "one")
    assert run.steps[0].parts[0].text == "hahaha"
    assert (run.summary.events, run.summary.duplicates) == (2, 0)


# --- running or lost -----------------------------------------------------------------------------------------------

WRITER = """
import os, sys
from datetime import UTC, datetime
from tests.support.log_builder import BEGIN, run_events
from sidestream.pipeline.registry import make_exporter
from sidestream.recording.process import hostname

exporter = make_exporter(sys.argv[1])
exporter.start()
minutes = (datetime.now(UTC) - BEGIN).total_seconds() / 60
exporter.export(run_events("one", ended=False, minutes=minutes, pid=os.getpid(), host=hostname()))
print("ready", flush=True)
for line in sys.stdin:
    {"rotate": lambda: exporter._log.rotate(exporter._log.acquire()), "close": exporter.close}[line.strip()]()
    print("done", flush=True)
"""


@contextmanager
def writer(spec: str) -> Iterator[subprocess.Popen[str]]:
    """Process that has started a run in `spec` and then waits."""
    path = os.pathsep.join([str(ROOT), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, spec],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        assert _said(process) == "ready"
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def _said(process: subprocess.Popen[str]) -> str:
    out: IO[str] | None = process.stdout
    assert out is not None
    return out.readline().strip()


def _tell(process: subprocess.Popen[str], act: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{act}\n")
    process.stdin.flush()
    assert _said(process) == "done"


def outcome(path: Path) -> str:
    (run,) = log.runs(path)
    return run.outcome


@pytest.mark.scenario_09
@pytest.mark.parametrize("name", ["runs/", "runs/app.jsonl"])
def test_a_run_is_running_while_its_writer_lives_and_lost_once_it_was_killed(tmp_path: Path, name: str) -> None:
    with writer(f"jsonl:{tmp_path}/{name}") as process:
        assert outcome(tmp_path / "runs") == "running"
        process.kill()
        process.wait()
        assert outcome(tmp_path / "runs") == "lost"


def test_a_run_is_running_though_its_writer_has_begun_another_file(tmp_path: Path) -> None:
    with writer(f"jsonl:{tmp_path}/runs/") as process:
        _tell(process, "rotate")
        assert len(list((tmp_path / "runs").iterdir())) == 2
        assert outcome(tmp_path / "runs") == "running"
        _tell(process, "close")
        assert outcome(tmp_path / "runs") == "lost"


def test_the_torn_line_of_a_living_writer_is_waited_for_and_of_a_dead_one_told(tmp_path: Path) -> None:
    with writer(f"jsonl:{tmp_path}/runs/") as process:
        (file,) = (tmp_path / "runs").iterdir()
        with open(file, "ab") as torn:
            torn.write(b'{"event_type":"agent_e')
        problems: list[log.Problem] = []
        assert len(list(log.read(file, on_problem=problems.append))) == 15
        assert problems == []
        process.kill()
        process.wait()
        assert len(list(log.read(file, on_problem=problems.append))) == 15
        assert [(problem.line, problem.kind) for problem in problems] == [(16, "torn")]


# --- runs within runs ----------------------------------------------------------------------------------------------


def family(folder: Path) -> None:
    """A run with two sub-agents, one of which has a sub-agent; each run costs 0.03 dollars."""
    events: list[StreamEvent] = []
    for run_id, parent in [("root", None), ("child1", "root"), ("child2", "root"), ("grandchild", "child1")]:
        links: dict[str, Any] = (
            {"parent_run_id": parent, "parent_tool_call_id": "call_1", "root_run_id": "root"} if parent else {}
        )
        events += run_events(run_id, agent=run_id.rstrip("12"), **links)
    write(folder / "a.jsonl", events)


def test_the_cost_of_a_sub_agent_is_counted_once(tmp_path: Path) -> None:
    family(tmp_path)
    statistics = log.statistics(tmp_path)
    assert (statistics.total.count, statistics.total.cost_usd) == (4, 0.12)
    assert {group.name: group.cost_usd for group in statistics.by_agent} == {
        "root": 0.03,
        "child": 0.06,
        "grandchild": 0.03,
    }
    assert statistics.by_model[0].cost_usd == 0.12


def test_children_know_their_parents(tmp_path: Path) -> None:
    family(tmp_path)
    runs = {run.run_id: run for run in log.runs(tmp_path)}
    assert [runs[each].parent_run_id for each in ("root", "child2", "grandchild")] == [None, "root", "child1"]
    assert {run.root_run_id for run in runs.values()} == {"root"}


def test_totals_with_sub_agents_are_those_that_the_writer_gave(tmp_path: Path) -> None:
    end = AgentEnd(
        outcome="completed",
        success=True,
        duration_seconds=1.0,
        usage=Usage(input_tokens=1),
        cost_usd=0.5,
        usage_with_children=Usage(input_tokens=3),
        cost_usd_with_children=1.5,
        sub_agents=2,
    )
    write(tmp_path / "a.jsonl", sequence([AgentStart(root_run_id="one"), end], "one"))
    (run,) = log.runs(tmp_path)
    assert (run.cost_usd, run.cost_usd_with_children, run.sub_agents) == (0.5, 1.5, 2)


def test_a_log_that_is_nowhere_is_an_error_and_an_empty_one_is_not(tmp_path: Path) -> None:
    assert log.runs(tmp_path) == []
    shutil.rmtree(tmp_path)
    with pytest.raises(ConfigurationError, match="no log at"):
        log.runs(tmp_path)
