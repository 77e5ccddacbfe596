"""`sidestream runs`, and the behaviour that all commands over a log share."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from sidestream.cli.commands.runs import in_tree
from sidestream.errors import ConfigurationError
from sidestream.log import RunSummary
from sidestream.log.runs.naming import id_length, named_run
from tests.support.command_line import invoke, mistake, summaries
from tests.support.log_builder import run_events, write


def made(run_id: str, parent: str | None = None, **facts: Any) -> RunSummary:
    return RunSummary(run_id=run_id, root_run_id=parent or run_id, parent_run_id=parent, outcome="completed", **facts)


def test_a_log_may_be_called_anything_the_system_allows(log: Path, tmp_path: Path) -> None:
    try:
        shutil.copy(next(iter(log.glob("*.jsonl"))), tmp_path / os.fsdecode(b"odd-\xff.jsonl"))
    except OSError:
        pytest.skip("file names must be UTF-8 here")
    assert invoke("runs", tmp_path).stdout
    assert {file for run in summaries(tmp_path) for file in run["files"]} == {f"{tmp_path}/odd-\\udcff.jsonl"}


class TestTable:
    def test_one_line_a_run(self, log: Path) -> None:
        """The table has a header and a line for each run, sub-agents indented below the run that called them."""
        head, *lines = invoke("runs", log).stdout.splitlines()
        assert head.split()[:4] == ["started", "agent", "run", "outcome"]
        agents = [line[21:30].rstrip() for line in lines]
        assert agents == ["support", "  billing", "support", "support", "support", "support"]

    def test_plain_in_a_pipe(self, log: Path) -> None:
        """Output in a pipe has no colours, no trailing spaces, and is not cut."""
        text = invoke("runs", log).stdout
        assert "\x1b" not in text
        assert "…" not in text
        assert all(line == line.rstrip() for line in text.splitlines())

    def test_says_what_is_not_as_it_should_be(self, log: Path) -> None:
        text = invoke("runs", log, "--outcome", "error").stdout
        assert "✗ error" in text
        assert "RuntimeError" in text

    def test_tries_of_the_same_thing(self, tmp_path: Path) -> None:
        """A later attempt is marked with its number and the first run; `show` names the first run."""
        first = run_events("run-first", attempt=1, attempt_of="run-first", ended=False)
        write(tmp_path / "a.jsonl", [*first, *run_events("run-again", minutes=1, attempt=2, attempt_of="run-first")])
        one, two = invoke("runs", tmp_path).stdout.splitlines()[1:]
        assert "attempt 1" not in one
        assert "attempt 2 of irst" in two
        assert "attempt 2, first attempt in run run-first" in invoke("show", "run-again", "--log", tmp_path).stdout
        assert [run["run_id"] for run in summaries(tmp_path, "--min-attempt", "2")] == ["run-again"]
        assert len(summaries(tmp_path, "--attempts-of", "irst")) == 2

    def test_limit(self, log: Path) -> None:
        """`-n` shows the last runs."""
        assert len(invoke("runs", log, "-n", 2).stdout.splitlines()) == 3
        assert summaries(log, "-n", "2") == summaries(log)[-2:]

    def test_sort(self, log: Path) -> None:
        """`--sort` puts the largest first, and `-n` counts from there; unknown values are last."""
        durations = [run["duration_seconds"] for run in summaries(log, "--sort", "duration")]
        assert durations == sorted(durations, reverse=True)
        assert [run["duration_seconds"] for run in summaries(log, "--sort", "-duration", "-n", "2")] == durations[
            :-3:-1
        ]
        assert "choose from started" in mistake("runs", log, "--sort", "size")
        agents = [line[21:30].strip() for line in invoke("runs", log, "--sort", "tokens").stdout.splitlines()[1:]]
        assert sorted(agents) == ["billing", *["support"] * 5]

    def test_long_log(self, tmp_path: Path) -> None:
        """The table shows the last fifty runs and reports the limit; `--all` and `--json` show all runs."""
        invoke("demo", "--events", 3000, "--out", tmp_path / "log")
        found = summaries(tmp_path / "log")
        assert len(found) > 50
        result = invoke("runs", tmp_path / "log")
        assert len(result.stdout.splitlines()) == 51
        assert f"The last 50 of {len(found)} runs" in result.stderr
        assert len(invoke("runs", tmp_path / "log", "--all").stdout.splitlines()) == len(found) + 1


class TestJson:
    def test_keys(self, log: Path) -> None:
        """Each run has every field of `RunSummary`, known or not."""
        for run in summaries(log):
            assert set(run) == set(RunSummary.__struct_fields__)

    def test_absent_is_not_zero(self, log: Path) -> None:
        """A known zero is 0, an unknown value is null."""
        last = summaries(log)[-1]
        assert last["retries"] == 0
        assert last["cost_usd_with_children"] is None

    def test_nothing_found(self, log: Path) -> None:
        """The JSON is an empty list, and the exit code is 1."""
        result = invoke("runs", log, "--agent", "nobody", "--json", code=1)
        assert json.loads(result.stdout) == []
        assert "no such runs" in result.stderr


class TestFilters:
    @pytest.mark.parametrize(
        ("options", "count"),
        [
            (["--agent", "billing"], 1),
            (["--agent", "supp*", "--outcome", "completed"], 3),
            (["--model", "house-llama", "--model", "gpt-*"], 6),
            (["--outcome", "error", "--outcome", "abandoned"], 2),
            (["--tag", "env=test"], 6),
            (["--tag", "tenant"], 2),
            (["--tag", "tenant=acme", "--tag", "env=test", "--agent", "support"], 1),
            (["--since", "1h"], 6),
            (["--tool", "ask_*"], 1),
            (["--tool", "look_up_order", "--min-cost", "0"], 2),
            (["--slower", "10m"], 0),
            (["--since", "2000-01-01", "--until", "9999-01-01"], 6),
        ],
    )
    def test_filter(self, log: Path, options: list[str], count: int) -> None:
        """Different options narrow the selection; a repeated option widens it, except for tags."""
        assert len(json.loads(invoke("runs", log, "--json", *options, code=0 if count else 1).stdout)) == count

    @pytest.mark.parametrize(
        "command",
        ["runs", "conversations", "show", "stats", "diff", "validate", "tail", "search", "redact", "export"],
    )
    def test_every_command_has_them(self, command: str) -> None:
        text = invoke(command, "--help").stdout
        for option in (
            "--since",
            "--until",
            "--agent",
            "--model",
            "--outcome",
            "--tag",
            "--tool",
            "--slower",
            "--json",
        ):
            assert option in text

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (["--since", "soon"], "write an age such as 30m"),
            (["--outcome", "bad"], "choose from completed"),
            (["--tag", "=x"], "write name=value"),
        ],
    )
    def test_mistake(self, log: Path, options: list[str], says: str) -> None:
        """An invalid value is reported with the valid ones."""
        assert says in mistake("runs", log, *options)


class TestLog:
    def test_nowhere(self, tmp_path: Path) -> None:
        """A path that does not exist is an error."""
        assert "no log at" in mistake("runs", tmp_path / "nothing")

    def test_empty(self, tmp_path: Path) -> None:
        """An empty folder is a log without runs: exit code 1."""
        assert "no runs yet" in invoke("runs", tmp_path, code=1).stderr

    def test_several_paths(self, log: Path, tmp_path: Path) -> None:
        """Folders, files and globs can be combined; each file counts once."""
        file = next(log.iterdir())
        found = json.loads(invoke("runs", log, file, f"{log}/*.jsonl", "--json").stdout)
        assert len(found) == 6
        assert not any(run["duplicates"] for run in found)

    def test_unreadable_lines_are_reported(self, log: Path, tmp_path: Path) -> None:
        """Unreadable lines are reported in one line on stderr; the runs are listed all the same."""
        damaged = tmp_path / "x.jsonl"
        damaged.write_bytes(b"{garbage\n" + next(log.glob("*.jsonl")).read_bytes() + b"[1, 2]\n")
        result = invoke("runs", damaged)
        assert len(result.stdout.splitlines()) == 7
        assert "could not read 2 lines" in result.stderr
        assert result.stderr.count("\n") == 1


class TestNames:
    """Names of a run: its id, the beginning or end of its id, or its trace."""

    KNOWN = (made("01a1-aaaa", trace_id="f" * 32), made("01a1-bbbb", "01a1-aaaa", trace_id="f" * 32), made("01b2-cbbb"))

    @pytest.mark.parametrize(
        ("name", "run_id"),
        [
            ("01a1-aaaa", "01a1-aaaa"),
            ("aaa", "01a1-aaaa"),
            ("01b", "01b2-cbbb"),
            ("f" * 32, "01a1-aaaa"),
            ("CBBB", "01b2-cbbb"),
        ],
    )
    def test_found(self, name: str, run_id: str) -> None:
        assert named_run(name, self.KNOWN).run_id == run_id

    @pytest.mark.parametrize(("name", "says"), [("bbb", "2 runs match"), ("xyz", "no such run"), ("", "no such run")])
    def test_not_found(self, name: str, says: str) -> None:
        with pytest.raises(ConfigurationError, match=says):
            named_run(name, self.KNOWN)

    def test_ids_are_as_short_as_they_can_be(self) -> None:
        """Shown ids are as short as is unambiguous, with at least four characters."""
        assert id_length(self.KNOWN, self.KNOWN) == 4
        alike = [made("a-123456"), made("b-923456"), made("c-999999")]
        assert id_length(alike, alike) == 6
        assert id_length(alike[2:], alike) == 4

    def test_tree_loses_nobody(self) -> None:
        """Runs that form a cycle of parents are listed too; only a foreign writer makes such a log."""
        circle = [made("a", "b"), made("b", "a"), made("c"), made("d", "c"), made("e", "gone")]
        assert sorted((run.run_id, depth) for run, depth in in_tree(circle)) == [
            ("a", 0), ("b", 0), ("c", 0), ("d", 1), ("e", 0)
        ]  # fmt: skip
