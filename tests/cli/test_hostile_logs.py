"""Logs with control sequences, unreadable logs, and outputs that cannot be written."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidestream.cli import app as cli
from sidestream.events import AgentEnd, AgentStart, AnyEvent, LLMStart, Payload, encode_line
from tests.support.command_line import COMMAND, environment, invoke
from tests.support.log_builder import sequence, write

pytestmark = pytest.mark.scenario_30

CONTROLS = "\x9b31m\x9d52;c;aGk=\x9c\u202e\u2066\x7f"
"""Control sequences that some terminals obey, and marks that reverse the direction of text."""


def log_of(folder: Path, *payloads: Payload, agent: str = "support") -> Path:
    return write(folder / "log.jsonl", sequence(payloads, "run-1", agent=agent))


class TestTables:
    @pytest.mark.parametrize("begin", list("=+-@\t\r\n"))
    def test_text_is_no_formula(self, begin: str, tmp_path: Path) -> None:
        text = f'{begin}HYPERLINK("http://example.com")'
        log = log_of(tmp_path, AgentStart(root_run_id="run-1", model=text, conversation_id=text), agent=text)
        invoke("export", log, "--out", tmp_path / "runs.csv")
        with open(tmp_path / "runs.csv", newline="") as file:
            (row,) = csv.DictReader(file)
        assert {row["agent_name"], row["model"], row["conversation_id"]} == {f"'{text}"}

    def test_numbers_stay_numbers(self, tmp_path: Path) -> None:
        end = AgentEnd(outcome="completed", success=True, duration_seconds=-0.5)  # possible after a change of the clock
        invoke("export", log_of(tmp_path, end), "--out", tmp_path / "runs.csv")
        with open(tmp_path / "runs.csv", newline="") as file:
            (row,) = csv.DictReader(file)
        assert row["duration_seconds"] == "-0.5"


@pytest.mark.parametrize("command", [("show", "--log"), ("runs",), ("tail",), ("search", "31m")])
def test_json_steers_no_terminal_and_says_the_same(command: tuple[str, ...], tmp_path: Path) -> None:
    prompt = f"look {CONTROLS}"
    log = log_of(tmp_path, AgentStart(root_run_id="run-1", prompt=prompt), agent=CONTROLS)
    text = invoke(*command, log, "--json").stdout
    assert not set(text) & set(CONTROLS.replace("31m", "").replace("52;c;aGk=", ""))
    printed = json.loads(text)
    first = printed[0] if isinstance(printed, list) else printed
    assert CONTROLS in (first.get("agent_name"), first.get("summary", {}).get("agent_name"))


class TestTailOfLongLines:
    def events(self, number: int, size: int) -> list[Payload]:
        return [LLMStart(request=n + 1, model="m", streaming=True, instructions="p" * size) for n in range(number)]

    @pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])
    def test_the_requested_number_of_events(self, name: str, tmp_path: Path) -> None:
        """The requested number of events is printed, for long lines and for compressed files too."""
        log = write(tmp_path / name, sequence(self.events(6, 400_000), "run-1"))
        assert len(invoke("tail", log, "--json", "-n", 4).stdout.splitlines()) == 4

    def test_events_of_matching_runs(self, tmp_path: Path) -> None:
        """The last steps of one agent are found before many steps of another."""
        meant = sequence(self.events(3, 10), "run-1", agent="meant")
        others = sequence(self.events(3, 400_000), "run-2", agent="other", minutes=1)
        log = write(tmp_path / "log.jsonl", [*meant, *others])
        assert len(invoke("tail", log, "--json", "--agent", "meant").stdout.splitlines()) == 3


COMMANDS = [
    ["runs", "LOG"], ["show", "--log", "LOG"], ["stats", "LOG"], ["search", "x", "LOG"], ["diff", "--log", "LOG"],
    ["tail", "LOG"], ["export", "LOG", "--out", "x.csv"], ["export", "LOG", "--table", "events", "--out", "y.csv"],
    ["redact", "LOG", "--out", "copy"],
]  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that exists and cannot be read")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_file_that_cannot_be_read_is_one_line_and_a_mistake(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*(word.replace("LOG", "/proc/self/mem") for word in command), code=2)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("sidestream: cannot read /proc/self/mem: ")


def test_a_folder_that_may_not_be_read_is_one_line_and_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> None:
        raise PermissionError(13, "Permission denied", "private/")

    monkeypatch.setattr(cli, "app", refused)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "sidestream: cannot read private/: Permission denied\n"


@pytest.mark.skipif(os.name != "posix", reason="descriptors and devices as POSIX has them")
class TestOutput:
    @pytest.mark.parametrize("command", ["runs", "show --log", "stats", "tail", "tail --json", "search a", "validate"])
    def test_that_is_full_is_one_line(self, command: str, events: list[AnyEvent], tmp_path: Path) -> None:
        (tmp_path / "log.jsonl").write_bytes(b"".join(map(encode_line, events)))
        with open("/dev/full", "wb") as full:
            done = self.run([*command.split(), str(tmp_path)], stdout=full)
        assert done.returncode == 1
        assert done.stderr == "sidestream: cannot write the output: No space left on device\n"

    @pytest.mark.parametrize("command", ["runs", "stats", "tail", "tail --json"])
    def test_that_is_closed_is_one_line(self, command: str, events: list[AnyEvent], tmp_path: Path) -> None:
        (tmp_path / "log.jsonl").write_bytes(b"".join(map(encode_line, events)))
        script = 'exec "$0" -c "$1" $2 "$3" >&-'
        done = subprocess.run(
            ["sh", "-c", script, sys.executable, COMMAND[-1], command, str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            check=False,
        )
        assert (done.returncode, done.stderr) == (1, "sidestream: standard output is closed\n")

    def run(self, arguments: list[str], **pipes: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # type: ignore[call-overload]
            [*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, env=environment(), check=False, **pipes
        )


@pytest.mark.parametrize("command", [["runs"], ["show", "--log"], ["stats"]])
def test_a_log_without_runs_is_told_in_the_same_words(command: list[str], tmp_path: Path) -> None:
    assert invoke(*command, tmp_path, code=1).stderr == "sidestream: this log has no runs yet\n"
    assert invoke(*command, tmp_path, "--agent", "nobody", code=1).stderr == "sidestream: no such runs in this log\n"


def test_that_no_run_failed_is_said(tmp_path: Path) -> None:
    end = AgentEnd(outcome="completed", success=True, duration_seconds=1.0)
    log = log_of(tmp_path, AgentStart(root_run_id="run-1"), end)
    assert invoke("show", "--failed", "--log", log, code=1).stderr == "sidestream: no run failed\n"
