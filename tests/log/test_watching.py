"""Runs in progress in a growing log: phase, rate, cost, silence; and the `top` command."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sidestream import log
from sidestream.cli.commands.top import lines as screen
from sidestream.events import StreamEvent, ToolEnd, ToolStart, Usage
from sidestream.log.watching import Watch, Watched
from sidestream.recording.process import this_process
from tests.support.command_line import invoke, mistake
from tests.support.log_builder import BEGIN, lines, run_events, sequence, write
from tests.support.run_events import answer, ask, chunk, end, start

HERE = this_process()


def live(run_id: str, agent: str = "support", minutes: float = 0) -> list[StreamEvent]:
    """Events of a run of this process, a tenth of a second apart: request, answer, tool, request, answer, end."""
    begun = start(run_id, model="gpt-4o", pid=HERE.pid, host=HERE.host, process=HERE.identity)
    used = Usage(input_tokens=50, output_tokens=10)
    payloads = [
        begun,
        ask(1),
        chunk("x" * 20, "y" * 20),
        answer(1, usage=used, cost_usd=0.5, duration_seconds=0.6, time_to_first_token_seconds={"text": 0.1}),
        ToolStart(tool_name="look_up", tool_call_id="c1"),
        ToolEnd(tool_name="look_up", tool_call_id="c1", outcome="ok", duration_seconds=0.1),
        ask(2),
        chunk("It left.", request=2),
        answer(2, usage=used, unpriced=True),
        end(),
    ]
    return sequence(payloads, run_id, agent=agent, minutes=minutes)


def after(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def append(file: Path, events: Iterable[StreamEvent]) -> None:
    with file.open("ab") as opened:
        opened.writelines(lines(events))


def one(found: list[Watched]) -> Watched:
    (run,) = found
    return run


def test_a_run_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    events = live("one")
    file = write(tmp_path / "a.jsonl", events[:1])
    watch = Watch(str(tmp_path))
    assert (one(watch.look(after(5))).phase, one(watch.look(after(5))).seconds) == ("between", 5.0)
    append(file, events[1:2])
    run = one(watch.look(after(3.1)))
    assert (run.phase, run.phase_seconds, run.silent_seconds, run.request) == ("waiting", 3.0, 3.0, 1)
    append(file, events[2:3])
    run = one(watch.look(after(2.2)))
    assert (run.phase, run.tokens_per_second, run.is_estimate, run.tokens) == ("generating", 5.0, True, None)
    append(file, events[3:4])
    run = one(watch.look(after(2.2)))
    assert (run.phase, run.tokens, run.cost_usd, run.tokens_per_second) == ("between", 60, 0.5, 20.0)
    append(file, events[4:5])
    run = one(watch.look(after(2.4)))
    assert (run.phase, run.name, run.phase_seconds, run.tool_calls) == ("tool", "look_up", 2.0, 1)
    append(file, events[5:9])
    run = one(watch.look(after(3)))
    assert (run.tokens, run.cost_usd, run.cost_is_lower_bound) == (120, 0.5, True)
    append(file, events[9:])
    assert watch.look(after(4)) == []


def test_what_ran_before_is_known_and_the_same_lines_count_once(tmp_path: Path) -> None:
    events = live("one")
    file = write(tmp_path / "a.jsonl", [*run_events("over"), *events[:4]])
    watch = Watch(str(tmp_path))
    append(file, [*events[2:4], *live("two", minutes=1)[:2]])
    first, second = watch.look(after(70))
    assert (first.run_id, first.tokens, second.run_id, second.phase) == ("one", 60, "two", "waiting")


def test_a_run_whose_writer_is_gone_is_not_in_progress(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", live("one")[:2])
    watch = Watch(str(tmp_path))
    append(file, run_events("lost", minutes=1, ended=False, pid=HERE.pid, host=HERE.host, process="0/0/0"))
    assert [run.run_id for run in watch.look(after(70))] == ["one"]


@pytest.mark.parametrize(("where", "taken"), [({"agents": ["b*"]}, "two"), ({"models": ["gpt*"]}, "one two")])
def test_a_filter_selects_runs_in_progress(tmp_path: Path, where: dict[str, list[str]], taken: str) -> None:
    write(tmp_path / "a.jsonl", [*live("one")[:2], *live("two", "billing", minutes=1)[:2]])
    found = Watch(str(tmp_path), log.Filter.parse(**where)).look(after(70))  # type: ignore[arg-type]
    assert [run.run_id for run in found] == taken.split()


class TestScreen:
    def test_a_stall_is_shown_and_the_screen_is_bounded(self, tmp_path: Path) -> None:
        write(tmp_path / "a.jsonl", [event for number in range(5) for event in live(f"run-{number}")[:3]])
        found = Watch(str(tmp_path)).look(after(10.2))
        first, _, head, *rows, more = screen(found, most=2)
        assert first == "5 runs in progress  5 tokens/s  5 stalled"
        assert head.split()[:4] == ["agent", "run", "for", "doing"]
        assert len(rows) == 2
        assert "generating gpt-5-mini" in rows[0]
        assert rows[0].endswith("stalled 10.0s")
        assert more == "and 3 more"

    def test_nothing_runs(self, tmp_path: Path) -> None:
        write(tmp_path / "a.jsonl", run_events("over"))
        assert invoke("top", tmp_path, "--once").stdout == "0 runs in progress\n"
        assert json.loads(invoke("top", tmp_path, "--json").stdout) == []

    def test_json(self, tmp_path: Path) -> None:
        write(tmp_path / "a.jsonl", live("one")[:2])
        (run,) = json.loads(invoke("top", tmp_path, "--once", "--json").stdout)
        assert set(run) == set(Watched.__struct_fields__)
        assert (run["phase"], run["name"], run["cost_usd"]) == ("waiting", "gpt-5-mini", None)

    def test_mistakes(self, tmp_path: Path) -> None:
        assert "no log at" in mistake("top", tmp_path / "nowhere", "--once")
        assert "cannot be followed" in mistake("top", "clickhouse://localhost:8123/default")

    @pytest.mark.skipif(os.name == "nt", reason="a terminal of POSIX")
    def test_on_a_terminal_ctrl_c_ends_it(self, tmp_path: Path) -> None:
        """The alternate screen is left, so that the terminal is restored."""
        import pty
        import signal
        import subprocess

        from tests.support.command_line import COMMAND, PATIENCE, environment

        write(tmp_path / "a.jsonl", live("one")[:2])
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, "top", str(tmp_path), "--interval", "0.1"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(TERM="xterm-256color", PYTHONUTF8="1", COLUMNS="100", LINES="20"),
            start_new_session=True,
        )
        os.close(slave)
        output = b""
        while b"in progress" not in output:
            output += os.read(master, 65536)
        process.send_signal(signal.SIGINT)
        try:
            while part := os.read(master, 65536):
                output += part
        except OSError:  # raised on Linux when the other end is closed
            pass
        os.close(master)
        assert process.wait(PATIENCE) == 130
        assert b"\x1b[?1049l" in output
        assert b"Traceback" not in output
