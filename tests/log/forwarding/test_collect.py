"""One process exports for many: each run once, across kills and outages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sidestream import ConfigurationError
from sidestream.events import AnyEvent, encode_line
from sidestream.log import read, runs
from sidestream.log.forwarding.collect import Collector
from tests.support.collect_process import Collecting, Metrics, collecting
from tests.support.forwarded_logs import Writer, ids, run_of, spans_of, write
from tests.support.loopback import free_port, until
from tests.support.otlp_receiver import Answer, http_receiver

RUNS = "sidestream_runs_total"


def copied(folder: Path) -> list[AnyEvent]:
    return list(read(folder)) if any(folder.glob("*.jsonl")) else []


def test_logs_of_many_processes_are_exported_once_for_all(tmp_path: Path) -> None:
    log, port = tmp_path / "runs", free_port()
    for number in range(5):
        write(log / f"{number}.jsonl", run_of(f"before-{number}"))
    with http_receiver() as received, collecting(log, "--otlp", received.url, "--prometheus", f":{port}") as collect:
        metrics = Metrics(port)
        until(lambda: metrics.total(RUNS) == 5)
        writers = [Writer(log / f"new-{number}.jsonl") for number in range(5)]
        for number, writer in enumerate(writers):
            writer.write(b"".join(map(encode_line, run_of(f"after-{number}", ended=False))))
        until(lambda: metrics.total("sidestream_runs_in_progress") == 5)
        for number, writer in enumerate(writers):
            writer.write(encode_line(run_of(f"after-{number}")[-1]))
            writer.die()
        until(lambda: metrics.total(RUNS) == 10)
        until(lambda: len(received.spans) == 10 * spans_of())
        assert metrics.total(RUNS, outcome="completed") == 10
        assert metrics.total("sidestream_runs_in_progress") == 0
        code, message = collect.end()
    assert code == 0
    assert "otlp: " in message
    assert len({span.span_id for span in received.spans}) == 10 * spans_of()


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    with collecting(
        tmp_path / "runs", "--exporter", f"jsonl:{tmp_path}/all/", "--checkpoint", tmp_path / "state"
    ) as collect:
        assert collect.process.stderr is not None
        assert "log does not exist yet, waiting for it" in collect.process.stderr.readline()
        write(tmp_path / "runs" / "1.jsonl", run_of("a"))
        until(lambda: ids(copied(tmp_path / "all")) == ids(run_of("a")))
        assert collect.end()[0] == 0


def test_one_exporter_that_is_away_keeps_no_other_waiting_and_loses_nothing(tmp_path: Path) -> None:
    log, port = tmp_path / "runs", free_port()
    write(log / "1.jsonl", run_of("a"))
    with http_receiver(Answer(status=503)) as received:
        with collecting(log, "--otlp", received.url, "--prometheus", f"127.0.0.1:{port}"):
            metrics = Metrics(port)
            until(lambda: metrics.total(RUNS) == 1)
            until(lambda: received.refused)
            until(lambda: metrics.total("sidestream_exporter_failures_total", exporter="otlp"))
            received.answers[:] = [Answer()]
            until(lambda: len(received.spans) == spans_of())


class TestKilled:
    def test_collect_loses_no_run_and_counts_none_twice(self, tmp_path: Path) -> None:
        """Counters do not fall: a scrape would take a lower value for a restart, and count everything again."""
        log, port, total = tmp_path / "runs", free_port(), 0
        metrics = Metrics(port)
        seen: list[float] = []
        with http_receiver() as received:
            for life in range(3):
                with collecting(log, "--otlp", received.url, "--prometheus", f":{port}") as collect:
                    for number in range(10):
                        write(log / f"{life % 2}.jsonl", run_of(f"run-{life}-{number}"))
                        total += 1
                        time.sleep(0.005)
                    until(lambda: (metrics.total(RUNS) or 0) > (seen[-1] if seen else 0))
                    seen.append(metrics.total(RUNS) or 0)
                    if life == 2:
                        until(lambda: metrics.total(RUNS) == 30)
                        until(lambda: len({span.span_id for span in received.spans}) == 30 * spans_of())
                        assert metrics.total("sidestream_tokens_total", type="input") == 30 * 12
                    collect.kill()
        assert seen == sorted(seen)

    def test_a_run_that_was_going_on_meanwhile_has_its_spans_and_parents(self, tmp_path: Path) -> None:
        log, run = tmp_path / "runs", run_of("a", pid=os.getpid())
        checkpoint = log / ".sidestream-collect" / "otlp.json"
        writer = Writer(log / "1.jsonl")
        with http_receiver() as received:
            with collecting(log, "--otlp", received.url):
                writer.write(b"".join(map(encode_line, run[:4])))  # in the middle of a tool call
                until(lambda: checkpoint.exists() and len(received.spans) == 1)
                until(lambda: json.loads(checkpoint.read_bytes())["runs"])
            with collecting(log, "--otlp", received.url):
                writer.write(b"".join(map(encode_line, run[4:])))
                writer.die()
                until(lambda: len(received.spans) == spans_of())
        spans = {span.name: span for span in received.spans}
        assert len({span.span_id for span in received.spans}) == spans_of()
        assert spans["execute_tool look_up"].parent_span_id == spans["invoke_agent clerk"].span_id
        assert spans["execute_tool look_up"].start_time_unix_nano < spans["execute_tool look_up"].end_time_unix_nano
        assert received.requests

    def test_a_writer_leaves_a_run_that_is_lost(self, tmp_path: Path) -> None:
        log, port = tmp_path / "runs", free_port()
        program = (
            "import asyncio, sys\n"
            "from pydantic_ai import Agent\n"
            "from pydantic_ai.models.test import TestModel\n"
            "from sidestream import Sidecar\n"
            "sidecar = Sidecar(f'jsonl:{sys.argv[1]}')\n"
            "agent = sidecar.observe(Agent(TestModel(), name='clerk'))\n"
            "@agent.tool_plain\n"
            "async def hang() -> None:\n"
            "    sidecar.flush()\n"
            "    print('hanging', flush=True)\n"
            "    await asyncio.sleep(3600)\n"
            "asyncio.run(agent.run('go'))\n"
        )
        with collecting(log, "--prometheus", f":{port}"):
            metrics = Metrics(port)
            writer = subprocess.Popen([sys.executable, "-c", program, str(log)], stdout=subprocess.PIPE, text=True)
            assert writer.stdout is not None
            assert writer.stdout.readline() == "hanging\n"
            until(lambda: metrics.total("sidestream_runs_in_progress") == 1)
            writer.kill()
            writer.communicate()
            until(lambda: metrics.total(RUNS, outcome="lost") == 1)
            assert metrics.total("sidestream_runs_in_progress") == 0
        (run,) = runs(log)
        assert run.outcome == "lost"
        assert "agent_end" not in [event.event_type for event in read(log)], "nothing is added to the log"


def test_a_restart_goes_on_and_exports_nothing_again(tmp_path: Path) -> None:
    log, copy = tmp_path / "runs", tmp_path / "all"
    options = (log, "--exporter", f"jsonl:{copy}/")
    write(log / "1.jsonl", run_of("a"))
    with collecting(*options) as first:
        until(lambda: len(copied(copy)) == 9)
        assert first.end()[0] == 0
    write(log / "1.jsonl", run_of("b"))
    with collecting(*options) as second:
        until(lambda: len(copied(copy)) == 18)
        assert second.end()[0] == 0
    assert ids(copied(copy)) == ids(run_of("a")) + ids(run_of("b"))


def test_killed_again_and_again_every_line_arrives(tmp_path: Path) -> None:
    """A copy of the log is complete although the collector and its rotating writers are killed repeatedly."""
    log, copy = tmp_path / "runs", tmp_path / "all"
    done = threading.Event()
    expected: list[tuple[str, int]] = []

    def write_on() -> None:
        for number in range(80):
            events = run_of(f"run-{number}")
            write(log / "app.jsonl", events)
            expected.extend(ids(events))
            if number % 20 == 19:
                (log / "app.jsonl").rename(log / f"app-20261120T0930{number // 20:02}Z-1.jsonl")
            time.sleep(0.01)
        done.set()

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        while not done.is_set():
            running = Collecting(log, "--exporter", f"jsonl:{copy}/")
            before = len(copied(copy))
            until(lambda before=before: len(copied(copy)) > before or done.is_set())  # type: ignore[misc]
            running.kill()
    finally:
        writer.join()
    with collecting(log, "--exporter", f"jsonl:{copy}/"):
        until(lambda: set(ids(copied(copy))) == set(expected))


def test_two_do_not_share_a_checkpoint(tmp_path: Path) -> None:
    log = tmp_path / "runs"
    write(log / "1.jsonl", run_of("a"))
    first = Collector(log, ["memory"], tmp_path / "state")
    try:
        with pytest.raises(ConfigurationError, match="in use by another process"):
            Collector(log, ["memory"], tmp_path / "state")
    finally:
        first.close()
    Collector(log, ["memory"], tmp_path / "state").close()


def test_an_unreadable_checkpoint_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "memory.json").write_bytes(b"{")
    collector = Collector(tmp_path, ["memory"], tmp_path / "state")
    try:
        with pytest.raises(ConfigurationError, match="remove it to begin with the whole log again"):
            collector.start()
    finally:
        collector.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --otlp URL"),
        (["--exporter", "nothing"], "there is no exporter 'nothing'"),
        (["--exporter", "memory", "--exporter", "memory"], "given twice"),
        (["--prometheus", "here"], "must be a port"),
    ],
)
def test_an_invalid_setting_is_one_line_and_exit_code_two(arguments: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from sidestream.cli import main; main()", "collect", str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_it_with_its_books(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "1.jsonl", run_of("a"))
    with collecting(tmp_path / "runs", "--exporter", f"jsonl:{tmp_path}/all/", "--json") as collect:
        until(lambda: len(copied(tmp_path / "all")) == 9)
        collect.process.send_signal(signal.SIGINT)
        out, _ = collect.process.communicate(timeout=60)
    books = json.loads(out)["exporters"]["jsonl"]
    assert collect.process.returncode == 0
    assert (books["seen"], books["exported"], books["dropped"], books["pending"]) == (9, 9, {}, 0)
