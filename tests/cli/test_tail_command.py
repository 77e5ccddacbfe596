"""`sidestream tail`, and commands in pipes and on terminals, in processes of their own."""

from __future__ import annotations

import gzip
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest

from sidestream.cli import app as cli
from sidestream.cli.commands.tail import Choice
from sidestream.events import AnyEvent, Progress, encode_line, make_event
from sidestream.log import Filter
from tests.support.command_line import COMMAND, environment, invoke, on_terminal, summaries

BEGIN = datetime(2026, 11, 20, tzinfo=UTC)
PATIENCE = 60.0
"""Seconds after which a test gives up, far more than it needs."""


class TestEnd:
    def test_as_the_console(self, log: Path) -> None:
        """The last steps are shown, one line each, as the console exporter writes them."""
        lines = invoke("tail", log, "-n", 3).stdout.splitlines()
        assert lines[-1].split()[1] == "support"
        assert "✓  completed" in lines[-1]

    def test_events_without_a_line_do_not_count(self, events: list[AnyEvent], tmp_path: Path) -> None:
        """Events without a line in the console's output do not count as steps."""
        end = next(number for number, event in enumerate(events) if event.event_type == "final_result") + 1
        (tmp_path / "x.jsonl").write_bytes(b"".join(map(encode_line, events[:end])))
        (line,) = invoke("tail", tmp_path, "-n", 1).stdout.splitlines()
        assert "✓" in line

    def test_verbose(self, log: Path) -> None:
        """`--verbose` shows content."""
        assert "prompt: Thank you!" in invoke("tail", log, "-v").stdout

    def test_json(self, log: Path, events: list[AnyEvent]) -> None:
        """`--json` prints the events unchanged."""
        assert invoke("tail", log, "-n", 4, "--json").stdout.encode() == b"".join(map(encode_line, events[-4:]))

    def test_order_of_time(self, events: list[AnyEvent], tmp_path: Path) -> None:
        """Events of several files are shown in order of time."""
        (tmp_path / "a.jsonl").write_bytes(b"".join(map(encode_line, events[0::2])))
        (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"".join(map(encode_line, events[1::2]))))
        times = [
            json.loads(line)["timestamp"] for line in invoke("tail", tmp_path, "-n", 500, "--json").stdout.splitlines()
        ]
        assert len(times) == len(events)
        assert times == sorted(times)

    def test_only_the_end_is_read(self, tmp_path: Path) -> None:
        """Only the end of a large file is read, starting in the middle of a line."""
        invoke("demo", "--events", 4000, "--out", tmp_path / "x.jsonl")
        assert (tmp_path / "x.jsonl").stat().st_size > 2 * 256 * 1024
        result = invoke("tail", tmp_path / "x.jsonl", "-n", 5, "--json")
        assert (
            result.stdout.encode().splitlines()
            == sorted((tmp_path / "x.jsonl").read_bytes().splitlines(), key=lambda line: json.loads(line)["timestamp"])[
                -5:
            ]
        )
        assert result.stderr == ""

    @pytest.mark.parametrize(
        ("options", "count"),
        [
            (["--agent", "billing"], 1),
            (["--outcome", "error"], 1),
            (["--tag", "tenant=acme"], 2),
            (["--model", "gpt*"], 5),
        ],
    )
    def test_chosen_runs(self, log: Path, options: list[str], count: int) -> None:
        lines = invoke("tail", log, "-n", 500, "--json", *options).stdout.splitlines()
        assert len({json.loads(line)["run_id"] for line in lines}) == count


class TestChoice:
    """Selection of events of runs that start while the log is followed."""

    @pytest.mark.parametrize(
        ("where", "options"),
        [
            (Filter(agents=("billing",)), ["--agent", "billing"]),
            (Filter(models=("house*",)), ["--model", "house*"]),
            (Filter(tags={"tenant": "acme"}), ["--tag", "tenant=acme"]),
        ],
    )
    def test_at_once(self, events: list[AnyEvent], log: Path, where: Filter, options: list[str]) -> None:
        """Conditions known at the start of a run decide at once, and each event is shown as it arrives."""
        wanted = {run["run_id"] for run in summaries(log, *options)}
        choice = Choice(where, [])
        for event in events:
            assert choice.take(event) == ([event] if event.run_id in wanted else [])

    def test_outcome(self, events: list[AnyEvent]) -> None:
        """The outcome is known at the end: the whole run is shown then."""
        choice = Choice(Filter(outcomes=("error",)), [])
        shown = [taken for event in events if (taken := choice.take(event))]
        assert len(shown) == 1
        assert shown[0] == [event for event in events if event.run_id == shown[0][0].run_id]

    def test_a_run_that_matches_later(self, events: list[AnyEvent], log: Path) -> None:
        """A run is shown as a whole once it matches: at its first call of a tool, or at its end."""
        for where, options in (
            (Filter(tools=("ask_billing",)), ["--tool", "ask_billing"]),
            (Filter(min_cost=0.0), ["--min-cost", "0"]),
            (Filter(slower=1e-9), ["--slower", "0"]),
        ):
            wanted = {run["run_id"] for run in summaries(log, *options)}
            assert wanted
            choice = Choice(where, [])
            shown = [each for event in events for each in choice.take(event)]
            for run_id in {event.run_id for event in events}:
                its = [event for event in events if event.run_id == run_id] if run_id in wanted else []
                assert [event for event in shown if event.run_id == run_id] == its


@contextmanager
def following(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[bytes], queue.Queue[str]]]:
    """`sidestream tail -f ARGUMENTS…` with a queue of its output lines."""
    lines: queue.Queue[str] = queue.Queue()
    # A process started in the background ignores Ctrl-C, and its children inherit that.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    process = subprocess.Popen(
        [*COMMAND[:-1], listening + COMMAND[-1], "tail", "-f", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONUTF8="1", PYTHONUNBUFFERED="1"),
    )
    assert process.stdout is not None

    def read(out: Iterator[bytes]) -> None:
        for line in out:
            lines.put(line.decode())

    reader = threading.Thread(target=read, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        yield process, lines
    finally:
        process.kill()
        process.wait(PATIENCE)
        reader.join(PATIENCE)
        process.stdout.close()
        assert process.stderr is not None
        process.stderr.close()


class TestFollow:
    def test_new_events_are_shown_once(self, events: list[AnyEvent], tmp_path: Path) -> None:
        """Appended events and events of new files are shown, each exactly once."""
        lines = list(map(encode_line, events))
        first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
        first.write_bytes(b"".join(lines[:5]))
        with following(tmp_path, "--json", "-n", "2") as (_, printed):
            came = [printed.get(timeout=PATIENCE) for _ in range(2)]
            with first.open("ab") as file:
                file.write(b"".join(lines[5:9]) + lines[9][:20])  # the last line is half written
            came += [printed.get(timeout=PATIENCE) for _ in range(4)]
            second.write_bytes(b"".join(lines[10:20]))
            came += [printed.get(timeout=PATIENCE) for _ in range(10)]
            with first.open("ab") as file:
                file.write(lines[9][20:])
            came.append(printed.get(timeout=PATIENCE))
        assert sorted(line.encode() for line in came) == sorted(lines[3:20])

    def test_while_it_begins(self, tmp_path: Path) -> None:
        """Events written during the first poll are shown exactly once, like later ones."""
        number = 0

        def write(file: BinaryIO) -> None:
            nonlocal number
            when = BEGIN + timedelta(milliseconds=number)
            event = make_event(Progress(iteration=number), run_id="r", seq=number, timestamp=when, agent_name="a")
            file.write(encode_line(event))
            number += 1

        with (tmp_path / "x.jsonl").open("wb", buffering=0) as file:
            write(file)
            with following(tmp_path, "--json", "-n", "3") as (process, printed):
                while printed.empty():
                    write(file)
                    time.sleep(0.001)
                    assert process.poll() is None
                for _ in range(100):
                    write(file)
                came = [json.loads(printed.get(timeout=PATIENCE))["seq"]]
                while came[-1] != number - 1:
                    came.append(json.loads(printed.get(timeout=PATIENCE))["seq"])
        assert came == list(range(came[0], number))

    def test_a_log_that_does_not_exist_yet(self, events: list[AnyEvent], tmp_path: Path) -> None:
        """A folder that does not exist yet is waited for."""
        with following(tmp_path / "runs", "--agent", "support") as (_, printed):
            (tmp_path / "runs").mkdir()
            (tmp_path / "runs" / "x.jsonl").write_bytes(b"".join(map(encode_line, events)))
            assert "support" in printed.get(timeout=PATIENCE)

    @pytest.mark.skipif(sys.platform == "win32", reason="there, Ctrl-C goes to a whole group of processes")
    def test_ctrl_c(self, log: Path) -> None:
        """Ctrl-C ends the command without an error message."""
        with following(log) as (process, printed):
            printed.get(timeout=PATIENCE)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 130
            assert process.stderr is not None
            assert process.stderr.read() == b""


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of a Unix shell")
class TestPipes:
    @pytest.mark.parametrize(
        "command",
        [
            "runs",
            "stats --json",
            "show",
            "search o",
            "tail -f",
            "tail -f --json",
        ],
    )
    def test_a_closed_pipe(self, log: Path, command: str) -> None:
        """A command whose reader has closed the pipe ends without an error message."""
        name, *options = command.split()
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = subprocess.run(
                [*COMMAND, name, *options, *(["--log"] if name == "show" else []), str(log)],
                stdout=writing,
                stderr=subprocess.PIPE,
                timeout=PATIENCE,
                env=environment(),
            )
        finally:
            os.close(writing)
        assert done.stderr == b""
        assert done.returncode == 1

    def test_output_that_knows_ascii_alone(self, log: Path) -> None:
        """On an ASCII output, glyphs are ASCII and all other characters are escaped."""
        for command in ("show --log", "stats --by hour"):
            done = subprocess.run(
                [*COMMAND, *command.split(), str(log)],
                capture_output=True,
                timeout=PATIENCE,
                env=environment(PYTHONIOENCODING="ascii"),
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout.isascii()
            assert done.stdout

    def test_mistake(self, tmp_path: Path) -> None:
        """An error is one line on stderr and exit code 2."""
        done = subprocess.run(
            [*COMMAND, "runs", str(tmp_path / "x")], capture_output=True, env=environment(), text=True
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("sidestream: no log at ")
        assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
class TestTerminal:
    def test_colours_and_width(self, log: Path) -> None:
        """On a terminal, the output is coloured and no line exceeds the width."""
        text = on_terminal("runs", str(log), columns=80)
        assert "\x1b[" in text
        assert max(map(len, plain(text).splitlines())) <= 80

    def test_no_color(self, log: Path) -> None:
        """`NO_COLOR` is obeyed."""
        for command in (["runs", str(log)], ["show", "--log", str(log)]):
            assert "\x1b[3" not in on_terminal(*command, columns=80, NO_COLOR="1")


def plain(text: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r\n", "\n")


EXAMPLES = [
    (command.callback.__name__, line.strip().removeprefix("Example:  "))
    for command in cli.app.registered_commands
    if command.callback is not None
    and command.callback.__module__.rpartition(".")[2]
    in {"runs", "show", "stats", "search", "diff", "validate", "tail", "redact", "export"}
    for line in (command.callback.__doc__ or "").split("\n\n")
    if line.strip().startswith("Example:")
]


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_example(name: str, example: str, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example of the help runs and finds a result."""
    (file,) = log.iterdir()
    for folder, target in (("runs", "x.jsonl"), ("logs", "x.jsonl"), ("logs", "y.jsonl.gz")):
        (tmp_path / folder).mkdir(exist_ok=True)
        content = file.read_bytes()
        (tmp_path / folder / target).write_bytes(gzip.compress(content) if target.endswith(".gz") else content)
    monkeypatch.chdir(tmp_path)
    found = summaries(log)
    for written, run in (("b855", found[0]), ("f021", found[2])):
        example = example.replace(written, run["run_id"][-8:])
    words = shlex.split(example.split(" || ")[0])
    assert words[:2] == ["sidestream", name]
    if "-f" in words:
        words.remove("-f")  # following never ends
    if ".parquet" in example:
        pytest.importorskip("duckdb")
    if ".html" in example:
        pytest.importorskip("jinja2")
    assert invoke(*words[1:]).stdout
