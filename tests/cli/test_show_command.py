"""`sidestream show`: one run as a tree."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidestream.cli.rendering import meter, time_bar
from sidestream.events import AnyEvent, encode_line
from tests.support.command_line import invoke, mistake, summaries

TIMES = st.floats(-1e6, 1e6)
HOSTILE = "\x1b[31mred\x1b]0;title\x07\u202e"


def shown(log: Path, *options: str) -> list[str]:
    return invoke("show", "--log", log, *options).stdout.splitlines()


class TestTree:
    def test_first_the_run_then_its_steps(self, log: Path) -> None:
        """The run comes first, then its steps; a sub-agent is within the tool call that called it."""
        lines = shown(log, summaries(log)[0]["run_id"])
        assert lines[0].startswith("✓  support  completed")
        assert "with 1 sub-agent" in lines[1]
        names = re.findall(r"(\S+ #\d|\S+\(\))", "\n".join(lines))
        assert names == [
            "gpt-5-mini #1",
            "look_up_order()",
            "gpt-5-mini #2",
            "ask_billing()",
            "house-llama #1",
            "gpt-5-mini #3",
        ]
        billing = next(line for line in lines if "billing " in line and "()" not in line)
        assert billing.startswith("  ✓")

    def test_content_is_folded(self, log: Path) -> None:
        """Content is folded to one line each, without repetition: the output equals the answer above."""
        lines = shown(log, summaries(log)[0]["run_id"])
        assert "  prompt: Where is order 4711, and what of the refund?" in lines
        assert '  calls look_up_order: {"order": "4711"}' in lines
        assert "  result: order 4711: shipped on Monday" in lines
        assert "  text: It is on its way, and that is all." in lines
        assert any(line.endswith("as above") for line in lines)

    def test_full(self, log: Path) -> None:
        """`--full` adds the arguments, each level of them on lines of its own."""
        lines = shown(log, summaries(log)[0]["run_id"], "--full")
        assert "  args:" in lines
        assert '      "order": "4711"' in lines

    def test_retry(self, log: Path) -> None:
        """A retry is shown by the tool's outcome, and as a step within the tool call."""
        lines = shown(log, summaries(log)[2]["run_id"])
        assert any(line.startswith("·  look_up_order()") and line.endswith("retry") for line in lines)
        assert any(line.startswith("  ↻  model_retry") for line in lines)
        assert sum("An order number is digits only." in line for line in lines) == 1

    def test_failure_is_shown_once(self, log: Path) -> None:
        """A failure is shown once, with the exception's text; the answer before the failure is shown."""
        text = "\n".join(shown(log, "--failed"))
        assert "✗  support  error  RuntimeError" in text
        assert text.count("RuntimeError: the model is overloaded") == 1
        assert "text: A chain that skips" in text

    def test_without_content(self, log: Path, tmp_path: Path) -> None:
        """A log without content shows all steps."""
        invoke("redact", log, "--out", tmp_path / "clean", "--content", "none")
        lines = shown(tmp_path / "clean")
        assert not any("text:" in line or "prompt:" in line for line in lines)
        assert any("gpt-5-mini #1" in line for line in lines)

    def test_harmless(self, events: list[AnyEvent], tmp_path: Path) -> None:
        """No text of an agent, a model or a user can control the terminal."""
        file = tmp_path / "x.jsonl"
        file.write_bytes(b"".join(encode_line(_hostile(event)) for event in events))
        for command in (
            ["show", "--log"],
            ["show", "--full", "--failed", "--log"],
            ["diff", "--log"],
            ["runs"],
            ["stats"],
            ["search", "title"],
            ["tail", "-v"],
        ):
            text = invoke(*command, file).stdout
            assert "title" in text
            assert not set("\x1b\x07\u202e") & set(text), command


def _hostile(event: AnyEvent) -> AnyEvent:
    data = event.data
    names = ("prompt", "model", "tool_name", "text", "error", "exception_type", "finish_reason")
    changes: dict[str, Any] = {name: HOSTILE + str(data[name]) for name in names if name in data}
    changes |= {"tags": {HOSTILE: HOSTILE}} if "tags" in data else {}
    changes |= {"lengths": None} if "text" in data else {}
    run_id = event.run_id + HOSTILE
    return msgspec.structs.replace(
        event, agent_name=HOSTILE, run_id=run_id, data=msgspec.structs.replace(data, **changes)
    )


class TestWhich:
    def test_last(self, log: Path) -> None:
        """The default is the last run, as with `--last`."""
        assert shown(log) == shown(log, "--last") == shown(log, summaries(log)[-1]["run_id"])

    def test_last_is_no_sub_agent(self, log: Path) -> None:
        """The last run is outermost: the run that called a sub-agent is shown, not the sub-agent."""
        lines = shown(log, "--until", summaries(log)[2]["started"])
        assert lines[0].startswith("✓  support")

    def test_end_of_the_id(self, log: Path) -> None:
        """A run is found by the end of its id, as the console and `sidestream runs` show it."""
        run_id = summaries(log)[0]["run_id"]
        assert shown(log, run_id[-6:]) == shown(log, run_id)

    def test_options_select_the_run(self, log: Path) -> None:
        assert "billing" in shown(log, "--agent", "billing")[0]

    def test_none(self, log: Path) -> None:
        """No matching run is exit code 1; an unknown name is an error."""
        invoke("show", "--log", log, "--agent", "nobody", code=1)
        assert "no such run" in mistake("show", "xyz", "--log", log)
        assert "no run" in mistake("show", "x" * 36, "--log", log)

    def test_one_way_of_saying(self, log: Path) -> None:
        assert "one of RUN, --last and --failed" in mistake("show", "--last", "--failed", "--log", log)


def test_json(log: Path) -> None:
    """The JSON has the whole run: summary, steps with sub-agents, deltas with times, events with file and line."""
    run = json.loads(invoke("show", summaries(log)[0]["run_id"], "--log", log, "--json").stdout)
    assert run["prompt"].startswith("Where is order 4711")
    assert run["summary"]["errors"] == 0
    tool = next(step for step in run["steps"] if step["name"] == "ask_billing")
    assert tool["children"][0]["run"]["summary"]["agent_name"] == "billing"
    answer = run["steps"][-2]["parts"][0]
    assert "".join(delta["text"] for delta in answer["deltas"]) == answer["text"]
    assert run["events"][0]["event"]["event_type"] == "agent_start"
    assert run["events"][0]["line"] == 1


def test_lost(events: list[AnyEvent], tmp_path: Path) -> None:
    """In a run whose process was killed, unfinished steps last until the last event."""
    start, *rest = [event for event in events if event.run_id == events[0].run_id][:2]
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, check=True)
    gone = msgspec.structs.replace(start.data, pid=int(ended.stdout), process=None)
    (tmp_path / "x.jsonl").write_bytes(b"".join(map(encode_line, [msgspec.structs.replace(start, data=gone), *rest])))
    lines = shown(tmp_path)
    assert lines[0].startswith("✗  support  lost")
    assert "no end in the log" in lines[-1]


class TestBars:
    """A bar has exactly the given number of columns, for all times."""

    @pytest.mark.parametrize(
        ("begin", "end", "whole", "first", "bar"),
        [
            (0, 10, 10, None, "━━━━━━━━━━"),
            (5, 10, 10, None, "     ━━━━━"),
            (5, 10, 10, 7, "     ──━━━"),
            (2, 2, 10, None, "  ━       "),
            (10, 10, 10, None, "         ━"),
            (0, 12, 10, 11, "─────────━"),
            (0, 0, 0, None, "━         "),
        ],
    )
    def test_time(self, begin: float, end: float, whole: float, first: float | None, bar: str) -> None:
        assert time_bar(begin, end, whole, 10, first) == bar

    @given(begin=TIMES, lasts=TIMES, whole=TIMES, waits=st.none() | TIMES, columns=st.integers(1, 60))
    def test_any_time(self, begin: float, lasts: float, whole: float, waits: float | None, columns: int) -> None:
        """Contradictory times are allowed."""
        first = None if waits is None else begin + waits
        bar = time_bar(begin, begin + lasts, whole, columns, first)
        assert len(bar) == columns
        assert "━" in bar

    @pytest.mark.parametrize(
        ("share", "bar"), [(0, ""), (0.5, "█████"), (0.56, "█████▋"), (1, "█" * 10), (2, "█" * 10)]
    )
    def test_share(self, share: float, bar: str) -> None:
        assert meter(share, 10).rstrip() == bar
