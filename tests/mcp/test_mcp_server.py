"""`sidestream mcp`, called by the official client over standard input and output."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from sidestream.errors import ConfigurationError
from sidestream.events import Error
from sidestream.mcp.answers import ANSWER, page
from sidestream.mcp.lists import ListTools
from sidestream.mcp.server import make_server
from sidestream.recording.content import ContentPolicy
from tests.support.command_line import COMMAND, environment, invoke, mistake
from tests.support.log_builder import run_events, sequence, write
from tests.support.run_events import end, start

LONG = "needle " + "x" * 50_000
READERS = {"list_runs", "conversations", "stats", "errors", "open_run", "read_request", "read_step", "compare"}


def attempt_of(number: int) -> dict[str, Any]:
    return {"attempt": number - 5, "attempt_of": "run-0006"} if number in (6, 7) else {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty runs, the last with a prompt of 50,000 characters."""
    folder = tmp_path_factory.mktemp("mcp")
    events = [
        event
        for number in range(40)
        for event in run_events(
            f"run-{number:04}",
            agent="billing" if number % 10 == 0 else "support",
            minutes=number,
            ended=number != 3,
            prompt=LONG if number == 39 else f"question {number}",
            conversation_id="c-1" if number < 2 else None,
            tags={"tenant": "acme"} if number == 5 else None,
            **attempt_of(number),
        )
    ]
    write(folder / "a.jsonl", events)
    return folder


class Asked:
    """Synchronous client of the server for tests."""

    def __init__(self, portal: BlockingPortal, client: Client) -> None:
        self._portal, self._client = portal, client

    def tools(self) -> dict[str, Any]:
        return {tool.name: tool for tool in self._portal.call(self._client.list_tools).tools}

    def text(self, reader: str, /, **arguments: Any) -> tuple[str, bool]:
        """Text of the answer, and whether it is an error."""
        result = self._portal.call(self._client.call_tool, reader, arguments)
        (content,) = result.content
        return content.text, bool(result.is_error)

    def __call__(self, reader: str, /, **arguments: Any) -> dict[str, Any]:
        text, is_error = self.text(reader, **arguments)
        assert not is_error, text
        assert len(text) < 3 * ANSWER
        answer: dict[str, Any] = json.loads(text)
        return answer


@asynccontextmanager
async def _client(*arguments: str) -> AsyncIterator[Client]:
    command = StdioServerParameters(
        command=sys.executable, args=[*COMMAND[1:], "mcp", *arguments], env=environment(PYTHONUTF8="1")
    )
    async with Client(stdio_client(command)) as client:
        yield client


@pytest.fixture(scope="module")
def ask(folder: Path) -> Iterator[Asked]:
    """Client of a server over the log."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_client(str(folder))) as client:
        yield Asked(portal, client)


def test_tools_that_read_and_nothing_else(ask: Asked) -> None:
    """Each tool is marked read-only, and describes itself and its arguments."""
    tools = ask.tools()
    assert set(tools) == READERS | {"search"}
    for tool in tools.values():
        assert tool.annotations.read_only_hint
        assert tool.description
        for name, about in tool.input_schema["properties"].items():
            assert "description" in about or name == "ignore_case"


class TestLists:
    def test_the_newest_runs_first(self, ask: Asked) -> None:
        answer = ask("list_runs", limit=3)
        assert [run["run"] for run in answer["runs"]] == ["run-0039", "run-0038", "run-0037"]
        assert answer["total"] == 40
        assert answer["runs"][1] == {
            "run": "run-0038",
            "agent": "support",
            "outcome": "completed",
            "started": "2026-11-20T09:38:00Z",
            "seconds": 1.5,
            "model": "gpt-4o",
            "requests": 2,
            "tools": ["look_up"],
            "retries": 1,
            "tokens": 400,
            "cost_usd": 0.03,
        }

    def test_page_by_page_each_run_once(self, ask: Asked) -> None:
        seen: list[str] = []
        cursor = None
        while True:
            answer = ask("list_runs", limit=7, **({"cursor": cursor} if cursor else {}))
            seen += [run["run"] for run in answer["runs"]]
            if (cursor := answer.get("next_cursor")) is None:
                break
        assert seen == [f"run-{number:04}" for number in reversed(range(40))]

    def test_the_next_page_continues_after_the_run_of_its_cursor(self, tmp_path: Path) -> None:
        """Also after newer runs have moved that run down the list."""
        tools = ListTools([str(tmp_path)], ContentPolicy.parse("none"))
        write(
            tmp_path / "a.jsonl", [event for number in range(6) for event in run_events(f"r{number}", minutes=number)]
        )
        first = tools.list_runs(limit=2)
        write(tmp_path / "b.jsonl", [*run_events("later", minutes=20), *run_events("latest", minutes=21)])
        second = tools.list_runs(limit=2, cursor=first["next_cursor"])
        assert [run["run"] for run in (*first["runs"], *second["runs"])] == ["r5", "r4", "r3", "r2"]
        assert (first["total"], second["total"]) == (6, 8)
        (tmp_path / "a.jsonl").unlink()
        with pytest.raises(ConfigurationError, match="no longer has this run"):
            tools.list_runs(limit=2, cursor=first["next_cursor"])

    @pytest.mark.parametrize(
        ("asked", "total"),
        [
            ({"agent": "bill*"}, 4),
            ({"outcome": "lost"}, 1),
            ({"attempts_of": "run-0006"}, 2),
            ({"min_attempt": 2}, 1),
            ({"tag": "tenant=acme"}, 1),
            ({"conversation": "c-1"}, 2),
            ({"tool": "look_up", "since": "2026-11-20T09:30Z"}, 10),
            ({"min_cost": 1.0}, 0),
        ],
    )
    def test_filters(self, ask: Asked, asked: dict[str, Any], total: int) -> None:
        assert ask("list_runs", where=asked)["total"] == total

    @pytest.mark.parametrize(
        ("tool", "asked", "items"),
        [
            ("conversations", {}, "conversations"),
            ("stats", {}, "groups"),
            ("errors", {}, "errors"),
            ("search", {"text": "e"}, "hits"),
        ],
    )
    def test_every_list_takes_every_filter(self, ask: Asked, tool: str, asked: dict[str, Any], items: str) -> None:
        assert ask(tool, **asked)[items]
        for where in ({"score": "quality<0.5"}, {"min_cost": 100.0}, {"slower": "2h"}, {"model": "no-such-*"}):
            assert not ask(tool, **asked, where=where)[items]

    def test_a_lower_bound_says_so(self, ask: Asked) -> None:
        (lost,) = ask("list_runs", where={"outcome": "lost"})["runs"]
        assert lost["cost_usd"] == "at least 0.03"

    def test_sums_and_conversations(self, ask: Asked) -> None:
        answer = ask("stats", by="tag:tenant")
        assert answer["total"]["count"] == 40
        assert {group.get("name"): group["count"] for group in answer["groups"]} == {None: 39, "acme": 1}
        (conversation,) = ask("conversations")["conversations"]
        assert (conversation["turns"], conversation["cost_usd"]) == (2, 0.06)

    def test_errors_grouped(self, ask: Asked) -> None:
        (group,) = ask("errors")["errors"]
        assert (group["exception"], group["where"], group["tool"], group["count"]) == (
            "KeyError",
            "tool",
            "look_up",
            40,
        )
        assert (group["message"], group["last_run"]) == ("not found", "run-0039")
        assert "last_message" not in group, "the same text is not repeated"

    def test_a_grouped_error_has_the_text_of_the_latest_one(self, tmp_path: Path) -> None:
        error = Error(error="no order 4711", exception_type="KeyError", where="run")
        write(tmp_path / "log.jsonl", sequence([start("one"), error, end("error")], "one"))
        for content, last in (("full", "no order 4711"), ("none", None)):
            (group,) = ListTools([str(tmp_path)], ContentPolicy.parse(content)).errors()["errors"]
            assert group.get("last_message") == last

    def test_search_tells_the_newest_first(self, ask: Asked) -> None:
        first = ask("search", text="QUESTION", limit=2)
        assert [hit["run"] for hit in first["hits"]] == ["run-0038", "run-0037"]
        more = ask("search", text="QUESTION", limit=2, cursor=first["next_cursor"])
        assert [hit["run"] for hit in more["hits"]] == ["run-0036", "run-0035"]


class TestOneRun:
    def test_open(self, ask: Asked) -> None:
        """Prompt, output and steps come in order; a long text is cut, with the number of missing characters."""
        answer = ask("open_run", run="run-0039")
        assert answer["prompt"].endswith("[… 48,007 more characters]")
        assert answer["output"] == "It left on Monday."
        kinds = [step["kind"] for step in answer["steps"]]
        assert kinds == ["request", "tool", "error", "retry", "request", "final_result"]
        tool = answer["steps"][1]
        assert (tool["name"], tool["outcome"], tool["input"]) == ("look_up", "retry", '{"order":"4711"}')

    def test_steps_page_by_page(self, ask: Asked) -> None:
        first = ask("open_run", run="0038", limit=4)
        rest = ask("open_run", run="0038", limit=4, cursor=first["next_cursor"])
        assert [step["kind"] for step in [*first["steps"], *rest["steps"]]] == [
            *("request", "tool", "error", "retry", "request", "final_result")
        ]
        assert "prompt" not in rest

    def test_request(self, ask: Asked) -> None:
        answer = ask("read_request", run="0038", request=2)
        assert answer["answer"] == [{"kind": "text", "text": "It left on Monday."}]
        assert (answer["model"], answer["outcome"]) == ("gpt-4o", "ok")
        assert ask("read_request", run="0038")["instructions"] == "be brief"

    def test_an_event_in_full(self, ask: Asked) -> None:
        """Pages of a long event join to the whole event."""
        text, cursor = "", None
        while True:
            answer = ask("read_step", run="run-0039", seq=0, **({"cursor": cursor} if cursor else {}))
            text += answer["text"]
            if (cursor := answer.get("next_cursor")) is None:
                break
        assert json.loads(text)["data"]["prompt"] == LONG

    def test_compare(self, ask: Asked) -> None:
        answer = ask("compare", a="run-0001", b="run-0002")
        assert answer["facts"] == [{"what": "prompt", "a": "question 1", "b": "question 2"}]
        assert (answer["same"], answer["same_steps"], answer["steps"]) == (False, 6, [])


@pytest.mark.parametrize(
    ("tool", "asked", "says"),
    [
        ("list_runs", {"where": {"outcome": "bad"}}, "choose from completed"),
        ("stats", {"where": {"agents": "billing"}}, "agents"),
        ("list_runs", {"sort": "size"}, "choose from started"),
        ("list_runs", {"cursor": "gone"}, "no longer has this run"),
        ("open_run", {"run": "zzzz"}, "list_runs lists them"),
        ("open_run", {"run": "run-0001", "cursor": "-1"}, "give the next_cursor"),
        ("read_request", {"run": "run-0001", "request": 9}, "no request 9"),
        ("read_step", {"run": "run-0001", "seq": 99}, "no event 99"),
        ("stats", {"by": "weather"}, "choose from agent"),
        ("search", {"text": "(", "regex": True}, "no regular expression"),
        ("list_runs", {"limit": 0}, "limit"),
    ],
)
def test_an_error_is_reported_to_the_agent(ask: Asked, tool: str, asked: dict[str, Any], says: str) -> None:
    text, is_error = ask.text(tool, **asked)
    assert is_error
    assert says in text


@pytest.mark.parametrize("policy", ["none", "metadata"])
def test_content_is_hidden_by_policy(folder: Path, policy: str) -> None:
    """Content appears in no answer, and there is no search, whose hits would reveal content."""
    server = make_server([str(folder)], policy)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Client(server)) as client:
        ask = Asked(portal, client)
        assert set(ask.tools()) == READERS
        answers = [
            ask("open_run", run="run-0038"),
            ask("read_request", run="run-0038", request=2),
            *(ask("read_step", run="run-0038", seq=seq) for seq in range(16)),
            ask("compare", a="run-0001", b="run-0002"),
            ask("errors"),
        ]
        for words in ("question", "Monday", "brief", "4711", "not found", "try again"):
            assert words not in json.dumps(answers)
        assert "look_up" in json.dumps(answers)


def test_a_page_is_as_large_as_an_answer_may_be() -> None:
    """An item that exceeds the size is alone on its page; no item is lost between pages."""
    items = [10, 30_000, 10, 10_000, 10_000, 10_000]
    pages: list[list[int]] = []
    rest = list(enumerate(items, 1))
    while rest:
        answer = page(rest, lambda item: {"text": "x" * item[1]}, 100, "items", lambda item: item[0])
        pages.append([len(item["text"]) for item in answer["items"]])
        rest = [item for item in rest if item[0] > int(answer.get("next_cursor", "100"))]
    assert pages == [[10], [30_000], [10, 10_000, 10_000], [10_000]]


def test_the_command_tells_its_tools_and_mistakes(folder: Path) -> None:
    tools = json.loads(invoke("mcp", folder, "--json").stdout)
    assert {tool["name"] for tool in tools} == READERS | {"search"}
    assert "content policy" in mistake("mcp", folder, "--content", "some")
