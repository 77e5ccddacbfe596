"""`sidestream stats`, `search`, `diff` and `conversations`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.command_line import invoke, mistake, summaries
from tests.support.log_builder import run_events, write


class TestStats:
    def test_sums(self, log: Path) -> None:
        """The number of runs by outcome comes first, then tables by agent, model and tool."""
        first, _, *rest = invoke("stats", log).stdout.splitlines()
        assert first == "6 runs  4 completed, 1 abandoned, 1 error"
        heads = [line.split()[0] for line, before in zip(rest, ["", *rest], strict=False) if not before and line]
        assert heads == ["agent", "model", "tool"]

    def test_unusual_outcomes_are_counted(self, log: Path) -> None:
        """Unusual outcomes are counted for each agent and tool."""
        lines = invoke("stats", log).stdout.splitlines()
        assert next(line for line in lines if line.startswith("support")).endswith("1 abandoned, 1 error")
        assert next(line for line in lines if line.startswith("look_up_order")).endswith("1 retry")

    def test_by(self, log: Path) -> None:
        """`--by` selects the tables; hours have a bar."""
        text = invoke("stats", log, "--by", "hour").stdout
        assert "\nhour" in text
        assert "████" in text
        assert "\nagent" not in text
        assert "choose from agent" in mistake("stats", log, "--by", "weather")

    def test_by_day_and_tag(self, log: Path) -> None:
        """Values of a tag form a table like that of the agents, including runs without the tag."""
        day, tag = invoke("stats", log, "--by", "day", "--by", "tag:tenant").stdout.split("\n\n")[1:]
        assert day.splitlines()[0].split()[:2] == ["day", "runs"]
        assert tag.splitlines()[0].split()[:3] == ["tag", "tenant", "runs"]
        # Tags set in a context also apply to sub-agents that run within it.
        assert {line.split()[0]: line.split()[1] for line in tag.splitlines()[1:]} == {"acme": "2", "(none)": "4"}
        assert "choose from agent" in mistake("stats", log, "--by", "tag:")

    def test_json(self, log: Path) -> None:
        """The JSON has all of `Statistics`, independent of `--by`."""
        found = json.loads(invoke("stats", log, "--json").stdout)
        assert set(found) == {
            *("total", "by_agent", "by_model", "by_tool", "by_hour", "by_day", "by_attempt", "by_tag", "missing_events")
        }
        assert found["total"]["outcomes"] == {"abandoned": 1, "completed": 4, "error": 1}
        assert {"count", "cost_usd", "duration", "unpriced_requests"} <= set(found["by_agent"][0])

    def test_nothing(self, log: Path) -> None:
        invoke("stats", log, "--agent", "nobody", code=1)


class TestSearch:
    def test_a_line_for_each_place(self, log: Path) -> None:
        """Each hit is a line with the agent, the end of the run's id, the field, and the text."""
        run_id = summaries(log)[0]["run_id"]
        (line,) = invoke("search", "shipped", log).stdout.splitlines()
        assert line.split("  ")[1:] == [
            f"support {run_id[-8:]}",
            "look_up_order result",
            "order 4711: shipped on Monday",
        ]

    def test_streamed_text_is_joined(self, log: Path) -> None:
        """A sentence that was streamed word by word is found."""
        assert "on its way, and that is all" in invoke("search", "its way, and that", log).stdout

    def test_regex_and_case(self, log: Path) -> None:
        assert invoke("search", "-e", r"ORDER \d{4}", log, code=1).stdout == ""
        assert "order 4711" in invoke("search", "-e", "-i", r"ORDER \d{4}", log).stdout
        assert "no regular expression" in mistake("search", "-e", "(", log)

    def test_limit_and_filter(self, log: Path) -> None:
        assert len(invoke("search", "o", log, "-n", 3).stdout.splitlines()) == 3
        agents = [
            json.loads(line)["agent_name"]
            for line in invoke("search", "the", log, "--json", "--agent", "billing").stdout.splitlines()
        ]
        assert set(agents) == {"billing"}

    def test_json_lines(self, log: Path) -> None:
        """Each hit is one line of JSON; the excerpt contains the match at the given position."""
        for line in invoke("search", "4711", log, "--json").stdout.splitlines():
            hit = json.loads(line)
            assert hit["excerpt"][hit["start"] : hit["end"]] == "4711"

    def test_nothing(self, log: Path) -> None:
        assert "was not found" in invoke("search", "no such thing", log, code=1).stderr


class TestDiff:
    def test_what_differs(self, log: Path) -> None:
        """Differences of the runs come first, then steps in one run only, and changed steps with their content."""
        a, b = summaries(log)[0], summaries(log)[2]
        lines = invoke("diff", a["run_id"][-8:], b["run_id"][-8:], "--log", log).stdout.splitlines()
        assert lines[0].startswith(f"- support {a['run_id']}")
        assert lines[1].startswith(f"+ support {b['run_id']}")
        assert "  -Where is order 4711, and what of the refund?" in lines
        assert "  +Where is order PP-12?" in lines
        assert any(line.startswith("~ look_up_order()") for line in lines)
        assert any(line.startswith("- ask_billing()") for line in lines)
        assert any("outcome: ok → retry" in line for line in lines)
        assert any("sub-agents: 1 → 0" in line for line in lines)

    def test_the_same(self, log: Path) -> None:
        """A run compared with itself has no differences."""
        run_id = summaries(log)[0]["run_id"]
        lines = invoke("diff", run_id, run_id, "--log", log).stdout.splitlines()
        assert lines[2:] == ["  8 steps the same"]

    def test_the_last_two(self, log: Path) -> None:
        """Without ids, the last two matching runs are compared; with one id, that run and the last other one."""
        found = summaries(log, "--agent", "support")
        heads = [line.split()[2] for line in invoke("diff", "--log", log).stdout.splitlines()[:2]]
        assert heads == [found[-2]["run_id"], found[-1]["run_id"]]
        heads = [line.split()[2] for line in invoke("diff", found[0]["run_id"], "--log", log).stdout.splitlines()[:2]]
        assert heads == [found[0]["run_id"], found[-1]["run_id"]]

    def test_full(self, log: Path) -> None:
        """`--full` also shows equal steps."""
        run_id = summaries(log)[0]["run_id"]
        assert "look_up_order()" in invoke("diff", run_id, run_id, "--log", log, "--full").stdout

    def test_json(self, log: Path) -> None:
        """Each step stands alone, with its changes."""
        a, b = summaries(log)[0], summaries(log)[2]
        found = json.loads(invoke("diff", a["run_id"], b["run_id"], "--log", log, "--json").stdout)
        assert found["same"] is False
        assert found["a"] == a
        assert {"what": "requests", "a": 3, "b": b["requests"]} in found["facts"] or a["requests"] == b["requests"]
        assert {step["status"] for step in found["steps"]} <= {"same", "changed", "only_a", "only_b"}
        assert all(not step[side]["children"] for step in found["steps"] for side in "ab" if step[side])

    @pytest.mark.parametrize("names", [["x", "y"], ["a", "b", "c"]])
    def test_mistake(self, log: Path, names: list[str]) -> None:
        assert mistake("diff", *names, "--log", log)

    def test_too_few(self, log: Path) -> None:
        assert "no two such runs" in mistake("diff", "--log", log, "--agent", "billing")


class TestConversations:
    @pytest.fixture
    def talks(self, tmp_path: Path) -> Path:
        """Two turns of one conversation, one of another."""
        events = [
            *run_events("turn-1", conversation_id="c-1", tags={"tenant": "acme"}),
            *run_events("turn-2", conversation_id="c-2", minutes=1),
            *run_events("turn-3", conversation_id="c-1", minutes=2, ended=False),
        ]
        write(tmp_path / "a.jsonl", events)
        return tmp_path

    def test_a_line_for_each(self, talks: Path) -> None:
        """The conversation with the latest turn is last; a lower bound is marked."""
        head, first, second = invoke("conversations", talks).stdout.splitlines()
        assert head.split()[:4] == ["began", "latest", "turn", "conversation"]
        assert "c-2" in first
        assert re.search(r"c-1 +2 +\S+ lost .*≥\$0\.06", second)

    def test_json_and_filters(self, talks: Path) -> None:
        (only,) = json.loads(invoke("conversations", talks, "--tag", "tenant=acme", "--json").stdout)
        assert only["turns"] == ["turn-1", "turn-3"]
        turns = json.loads(invoke("runs", talks, "--conversation", "c-1", "--json").stdout)
        assert [run["run_id"] for run in turns] == only["turns"]
        assert len(json.loads(invoke("conversations", talks, "-n", 1, "--json").stdout)) == 1

    def test_none(self, talks: Path) -> None:
        assert "no such conversations" in invoke("conversations", talks, "--agent", "nobody", code=1).stderr
