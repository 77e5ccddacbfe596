"""The replay command: output and exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sidestream.cli.app import app
from sidestream.log import read
from tests.support.forwarded_logs import run_of, write
from tests.support.loopback import free_port

COMMAND = [sys.executable, "-c", "from sidestream.cli import main; main()", "replay"]


def replay(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["replay", *map(str, arguments)])


def test_the_result_is_printed(tmp_path: Path) -> None:
    write(tmp_path / "log" / "1.jsonl", [*run_of("a"), *run_of("b", agent="other")])
    done = replay(tmp_path / "log", "--to", f"jsonl:{tmp_path}/copy/", "--agent", "clerk")
    assert done.exit_code == 0
    assert done.output.startswith(f"9 of 9 events of 1 runs exported to jsonl:{tmp_path}/copy/ (")
    assert list(read(tmp_path / "copy")) == run_of("a")


def test_a_dry_run_says_what_would_be(tmp_path: Path) -> None:
    write(tmp_path / "log" / "1.jsonl", run_of("a"))
    done = replay(tmp_path / "log", "--to", f"jsonl:{tmp_path}/copy/", "--dry-run")
    assert done.exit_code == 0
    assert done.output.startswith("would export 9 of 9 events of 1 runs to jsonl:")
    assert not (tmp_path / "copy").exists()


def test_an_exporter_of_ones_own_is_named_by_its_class(tmp_path: Path) -> None:
    write(tmp_path / "log" / "1.jsonl", run_of("a"))
    done = replay(
        tmp_path / "log",
        "--to",
        "tests.support.recording_sinks:Sink",
        "--to",
        "sidestream.pipeline.memory:InMemoryExporter",
        "--json",
    )
    assert done.exit_code == 0
    assert [each["exporter"] for each in json.loads(done.stdout)] == [
        "tests.support.recording_sinks:Sink",
        "sidestream.pipeline.memory:InMemoryExporter",
    ]
    assert {each["exported"] for each in json.loads(done.stdout)} == {9}


def test_options_of_an_exporter_are_not_printed(tmp_path: Path) -> None:
    """Options may be secret, as headers are."""
    write(tmp_path / "log" / "1.jsonl", run_of("a"))
    done = replay(tmp_path / "log", "--to", "otlp:http://127.0.0.1:9?headers=key%3Dhush", "--dry-run", "--json")
    assert done.exit_code == 0
    assert "hush" not in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "nothing"], "there is no exporter 'nothing'"),
        (["--to", "nothing:Class"], "there is no exporter 'nothing'"),
        (["--to", "memory", "--speed", "fast"], "write max, or a factor"),
        (["--to", "memory", "--only-missing"], "keeps no record"),
        (["--to", "memory", "--to", "console", "--resume", "state"], "give one --to"),
        (["--to", "memory", "--since", "whenever"], "'whenever'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(arguments: list[str], message: str, tmp_path: Path) -> None:
    write(tmp_path / "log" / "1.jsonl", run_of("a"))
    done = subprocess.run([*COMMAND, tmp_path / "log", *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_ctrl_c_ends_it_with_what_it_came_to(tmp_path: Path) -> None:
    write(tmp_path / "log" / "1.jsonl", run_of("a"))
    command = [*COMMAND, str(tmp_path / "log"), "--to", "otlp:http://127.0.0.1:9", "--patience", "100", "--json"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    assert "cannot take spans now" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=100)
    assert running.returncode == 130
    (done,) = json.loads(out)
    assert (done["complete"], done["exported"], done["pending"]) == (False, 0, done["chosen"])


def test_an_endpoint_that_is_asked_stays_until_ctrl_c(tmp_path: Path) -> None:
    port = free_port()
    write(tmp_path / "log" / "1.jsonl", run_of("a"))
    command = [*COMMAND, str(tmp_path / "log"), "--to", f"prometheus:{port}", "--stay"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert 'sidestream_runs_total{agent="clerk",outcome="completed"' in _page(port)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=100)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 0
    assert out.startswith("9 of 9 events of 1 runs exported to prometheus:")


def _page(port: int) -> str:
    """Text of the metrics page, once it counts a run."""
    opener: Any = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60
    while True:
        try:
            page = opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        except OSError:
            page = ""
        if "sidestream_runs_total{" in page:
            return str(page)
        assert time.monotonic() < deadline
        time.sleep(0.05)
