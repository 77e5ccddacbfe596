"""Exporter `collect`: start, restart and end of the one collector per log."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidestream import ConfigurationError, Sidecar
from sidestream.errors import UnknownExporterError
from sidestream_exporters import CollectExporter
from tests.support.beside import Beside, beside
from tests.support.loopback import until
from tests.support.programs import AGENT, environment, run, sidestream, write
from tests.support.subprograms import OBSERVED, Program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks")

PROGRAM = f"""{OBSERVED}# ---
    import sys
    sidecar = Sidecar(f"jsonl:{{LOG}}/", os.environ["COLLECT"])
    record(sidecar, os.environ["RUN"])
    assert sidecar.flush() == {{}}
    while sidecar.stats().collector.pid is None:
        import time; time.sleep(0.01)
    print(sidecar.stats().collector.starts, flush=True)
"""
"""Program that logs the run RUN, prints the number of collectors it started, and ends."""


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Beside]:
    with beside(tmp_path) as found:
        yield found


def record(sidecar: Sidecar, run_id: str) -> None:
    run = sidecar.open_run(run_id, "agent", None)
    run.start()
    run.end("completed")
    sidecar.close_run(run)


def test_one_collector_serves_all_programs_of_a_log_and_ends_after_them(there: Beside, tmp_path: Path) -> None:
    programs = [
        Program(tmp_path / name, PROGRAM + "    sys.stdin.read()\n", RUN=name, COLLECT=there.spec, LOG=str(there.log))
        for name in ("a", "b", "c")
    ]
    starts = [int(program.wait_for_line()) for program in programs]
    assert sum(starts) == 1
    until(lambda: sorted(there.runs()) == ["a", "b", "c"])
    assert there.companion.has_collector()
    for program in programs:
        program.send(signal.SIGKILL)  # the kill also releases the locks
        program.wait()
    there.ends()
    status = there.status()
    assert status is not None
    assert (status.error, status.behind_bytes, status.exporters["jsonl"].pending) == (None, 0, 0)
    assert sorted(there.runs()) == ["a", "b", "c"]


def test_a_program_that_is_over_at_once_is_served(there: Beside, tmp_path: Path) -> None:
    """The program's output pipe closes although the collector runs on: no stream is inherited."""
    source = f"""{OBSERVED}# ---
    sidecar = Sidecar(f"jsonl:{{LOG}}/", os.environ["COLLECT"])
    record(sidecar)
    """
    ended = Program(tmp_path / "a", source, COLLECT=there.spec, LOG=str(there.log)).wait()
    assert (ended.code, ended.err) == (0, "")
    assert there.companion.has_collector()
    there.ends()
    assert there.runs() == ["r"]


def test_a_collector_that_is_killed_is_started_again_and_goes_on(there: Beside) -> None:
    """Events since the last checkpoint are exported again, with equal run ids and sequence numbers."""
    with Sidecar(f"jsonl:{there.log}/", there.spec) as sidecar:
        record(sidecar, "before")
        until(lambda: there.runs() == ["before"])
        first = there.pid()
        os.kill(first, signal.SIGKILL)
        until(lambda: not there.companion.has_collector() or there.pid() != first)
        record(sidecar, "after")
        until(lambda: set(there.runs()) == {"after", "before"})
        stats = sidecar.stats().collector
        assert stats is not None
        assert (stats.running, stats.starts, stats.error) == (True, 2, None)
    there.ends()
    assert set(there.runs()) == {"after", "before"}


def test_a_folder_that_is_removed_gets_another_collector(there: Beside) -> None:
    with Sidecar(f"jsonl:{there.log}/", there.spec) as sidecar:
        record(sidecar, "before")
        until(lambda: there.runs() == ["before"])
        shutil.rmtree(there.log, ignore_errors=True)
        record(sidecar, "after")
        until(lambda: set(there.runs()) == {"after", "before"})
        until(lambda: (stats := sidecar.stats().collector) and stats.starts == 2)
    there.ends()


def test_a_run_whose_program_was_killed_is_told_before_the_collector_ends(there: Beside, tmp_path: Path) -> None:
    port = "prometheus=:0&linger=0"  # metrics, unlike the log, contain the end of a lost run
    source = f"""{OBSERVED}# ---
    import signal, time
    sidecar = Sidecar(f"jsonl:{{LOG}}/", os.environ["COLLECT"])
    run = sidecar.open_run("lost", "agent", None)
    run.start()
    sidecar.flush()
    while not ((collector := sidecar.stats().collector) and collector.pid):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    Program(tmp_path / "a", source, COLLECT=f"collect:?{port}", LOG=str(there.log)).wait()
    until(there.status)
    there.ends()
    counted = (Path(there.companion.path) / "prometheus.json").read_text()
    assert '"lost"' in counted


def test_the_end_of_a_program_waits_for_no_delivery(there: Beside) -> None:
    """With an unreachable sink the program ends; the collector runs until SIGTERM, and reports undelivered events."""
    sidecar = Sidecar(f"jsonl:{there.log}/", "collect:?otlp=http://127.0.0.1:9")
    record(sidecar, "r")
    assert sidecar.close() == {}
    collector = there.pid()
    until(lambda: (status := there.status()) and status.exporters and status.exporters["otlp"].failures)
    assert there.companion.has_collector()
    os.kill(collector, signal.SIGTERM)
    os.kill(collector, signal.SIGKILL)
    there.ends()


def test_a_forked_child_is_a_writer_of_its_own(there: Beside, tmp_path: Path) -> None:
    """The child starts no second collector, and its end does not release the parent's lock."""
    source = f"""{OBSERVED}# ---
    import time
    sidecar = Sidecar(f"jsonl:{{LOG}}/", os.environ["COLLECT"])
    record(sidecar, "parent")
    while sidecar.stats().collector.pid is None:
        time.sleep(0.01)
    child = os.fork()
    if not child:
        record(sidecar, "child")
        sidecar.close()
        os._exit(sidecar.stats().collector.starts)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    while True:  # the program has no child processes left to wait for
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
    print(sidecar.stats().collector.running, flush=True)
    """
    ended = Program(tmp_path / "a", source, COLLECT=there.spec, LOG=str(there.log)).wait()
    assert (ended.out, ended.err) == ("True\n", "")
    there.ends()
    assert sorted(there.runs()) == ["child", "parent"]


def test_a_collector_that_cannot_work_says_why(there: Beside) -> None:
    with Sidecar(f"jsonl:{there.log}/", "collect:?exporters=jsonl:x/%3Fchunks%3Dwrong") as sidecar:
        until(lambda: (stats := sidecar.stats().collector) and stats.error)
        stats = sidecar.stats().collector
        assert stats is not None
        assert stats.error is not None
        assert "choose merged, all, none" in stats.error


def test_sidestream_run_collects(there: Beside, tmp_path: Path) -> None:
    write(tmp_path / "app.py", AGENT + "    print(agent.run_sync('?').output)\n")
    options = ["--exporter", "jsonl:runs/", "--collect", f"jsonl:{there.copy}/"]
    done = run([*sidestream(*options), "app.py"], tmp_path, env=environment())
    assert (done.stdout, done.stderr) == ("hello\n", "")
    there.ends()
    assert len(there.runs()) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CollectExporter(), "no exporter given"),
        (lambda: CollectExporter(exporters="collect:?otlp=http://x"), "cannot start another one"),
        (lambda: CollectExporter(otlp="http://x", linger=-1), "linger=-1"),
        (lambda: Sidecar("memory", CollectExporter(otlp="http://x")), "no log to collect from"),
    ],
)
def test_what_cannot_work_is_said_at_once(make: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()  # type: ignore[operator]


def test_an_exporter_that_is_not_installed_is_said_at_once() -> None:
    with pytest.raises(UnknownExporterError, match="nonsense"):
        CollectExporter(exporters="nonsense:x")
