"""Log files and ClickHouse give the same lists, pages, filters, single runs, search hits and totals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidestream import log
from sidestream.errors import ConfigurationError, SidestreamError
from sidestream.events import (
    AgentEnd,
    AgentStart,
    Attempt,
    Custom,
    LLMEnd,
    LLMStart,
    StreamEvent,
    ToolStart,
    Usage,
)
from sidestream.log.clickhouse.totals import quantiles_from, sql_exact_sum, sql_values_at_ranks
from sidestream.log.open_store import store_of
from sidestream.log.runs.conversations import conversation_page, conversations_of
from sidestream.log.runs.overview import names, over_time
from sidestream.log.runs.quantiles import quantiles
from sidestream.log.runs.totals import summed
from sidestream.log.store import RunPage
from sidestream_exporters.clickhouse import ClickHouseExporter
from tests.support.clickhouse_server import ClickHouseServer, clickhouse
from tests.support.command_line import invoke
from tests.support.log_builder import QUICK, lines, plain, run_events, scored, sequence, write

SCORES = [
    scored("run1", "helpful", 0.1, minutes=60, comment="Grüße 'quoted' \\ \n"),
    scored("run1", "helpful", 0.9, minutes=61),
    scored("run1", "verdict", label="pass", minutes=62),
    scored("run2", "helpful", 0.9, minutes=60),
    scored("run2", "helpful", 0.2, minutes=61),
    scored("inner", "checked", True, minutes=60),
    scored("tried", "helpful", 0.7, minutes=60),
    scored("tried", "helpful", label="unsure", minutes=61),
    scored("unended", "verdict", label="fail", minutes=3),
    scored("not in this log", "helpful", 1.0, minutes=3),
]


def fleet() -> list[StreamEvent]:
    """Runs of two agents, with sub-agents, tags, conversations, and every kind of incompleteness."""
    nested = sequence(
        [
            AgentStart(root_run_id="outer", parent_run_id="outer", parent_tool_call_id="call_1", model="small"),
            ToolStart(tool_name="dig*[x]", tool_call_id="c", args={"why": "Grüße 'quoted' \\ \n"}, attempt=1),
            Custom(name="note", payload={"text": "found\tsomething"}),
            AgentEnd(outcome="error", success=False, duration_seconds=9.5, cost_usd=0.5, exception_type="ValueError"),
        ],
        "inner",
        agent="digger",
        minutes=3,
    )
    tapped = [
        LLMStart(request=1, model="unknown", streaming=True),
        LLMEnd(
            request=1,
            outcome="ok",
            duration_seconds=0.25,
            model="unknown",
            response_model="large",
            usage=Usage(input_tokens=7),
            usage_source="partial",
            cost_usd=0.001,
            failed_attempts=[
                Attempt(model="a", outcome="error", usage=Usage(output_tokens=3)),
                Attempt(model="b", outcome="rejected", cost_usd=0.1),
            ],
            time_to_first_token_seconds={"text": 0.2, "thinking": 0.1},
        ),
        LLMStart(request=2, model="unknown", streaming=True),
        LLMEnd(request=2, outcome="ok", duration_seconds=0.5, usage_source="none", unpriced=True, chunks=2),
    ]
    return [
        *sequence([AgentStart(root_run_id="tapped"), *tapped], "tapped", agent="digger", minutes=9),
        *sequence(
            [AgentStart(root_run_id="whole"), *tapped, AgentEnd(outcome="completed", success=True, duration_seconds=2)],
            "whole",
            agent="digger",
            minutes=10,
        ),
        *run_events("run1", conversation_id="talk", tags={"tenant": "acme", "odd'name": "x\\y"}),
        *run_events("run2", minutes=1, model="o3", conversation_id="talk", tags={"tenant": "other"}),
        *run_events("outer", minutes=2, agent="it's"),
        *nested,
        *run_events("unended", minutes=4, ended=False),
        *run_events("no start", minutes=5)[5:],
        *run_events("with gaps", minutes=6)[::2],
        *run_events("tried", minutes=7, attempt=1, attempt_of="tried"),
        *run_events("again", minutes=8, attempt=2, attempt_of="tried", conversation_id="another talk"),
        *SCORES,
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[ClickHouseServer]:
    with clickhouse() as running:
        exporter = ClickHouseExporter(running.address(), content="full")
        exporter.start()
        events = fleet()
        exporter.export(events)
        exporter.export(events[10:40])  # exported again: no event counts twice
        exporter.close()
        yield running


@pytest.fixture(scope="module")
def client(server: ClickHouseServer) -> Any:
    return server.client()


@pytest.fixture(params=["files", "clickhouse"])
def paths(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "files":
        write(tmp_path / "log.jsonl", fleet())
        return str(tmp_path)
    running: ClickHouseServer = request.getfixturevalue("server")
    return running.address()


FILTERS: list[dict[str, Any]] = [
    {},
    {"agents": ["supp*"]},
    {"agents": ["*up*or*"]},
    {"agents": ["it's", "digger"]},
    {"models": ["o?"]},
    {"tools": ["dig[*]*"]},
    {"tags": ["tenant"]},
    {"tags": ["tenant=acme", "odd'name=x\\y"]},
    {"conversations": ["t*k"]},
    {"outcomes": ["error"]},
    {"outcomes": ["lost", "running"]},
    {"min_cost": 0.02},
    {"slower": 2},
    {"attempts_of": ["ried"]},
    {"min_attempt": 2},
    {"scores": ["helpful"]},
    {"scores": ["helpful<0.5"]},
    {"scores": ["helpful>=0.5", "verdict=pass"]},
    {"scores": ["checked=true"]},
    {"since": "2026-11-20T09:02:00Z", "until": "2026-11-20T09:04:00Z"},
    {"outermost": True},
]
SORTS = ("started", "-cost", "duration", "tokens", "-first_token")


def test_a_filter_takes_the_same_runs_in_pages_and_lists(paths: str) -> None:
    known, store = log.runs(paths), store_of(paths)
    for number, asked in enumerate(FILTERS):
        where = log.Filter.parse(**asked)
        expected = [run for run in known if where.matches(run)]
        assert expected, asked
        assert [run.run_id for run in log.runs(paths, where)] == [run.run_id for run in expected], asked
        order = log.Order.parse(SORTS[number % len(SORTS)])
        page = store.page(where, order, limit=2, offset=number % 2)
        ordered = [run.run_id for run in order.sorted(expected)]
        assert [run.run_id for run in page.runs] == ordered[number % 2 :][:2], (asked, order)
        assert page.total == len(expected), asked
        if number % 4:
            continue
        assert store.page(where, order, limit=0) == RunPage(runs=[], total=len(expected)), asked


@pytest.mark.parametrize("sort", SORTS)
def test_pages_are_the_list_in_its_order(paths: str, sort: str) -> None:
    order = log.Order.parse(sort)
    pages = [store_of(paths).page(None, order, limit=3, offset=offset) for offset in (0, 3, 6, 9)]
    found = [run.run_id for page in pages for run in page.runs]
    assert found == [run.run_id for run in order.sorted(log.runs(paths))]


def test_the_overview_is_that_of_the_list(paths: str) -> None:
    """The cost of outermost runs includes their sub-agents."""
    store = store_of(paths)
    for where in (None, log.Filter(outermost=True), log.Filter(agents=("supp*",)), log.Filter(agents=("nobody",))):
        runs = log.runs(paths, where)
        expected = over_time(runs, 7, with_sub_agents=where is not None and where.outermost)
        assert store.over_time(where, bins=7) == expected, where
    assert store.names() == names(log.runs(paths))


def test_statistics_are_the_sums_of_the_list(paths: str) -> None:
    """ClickHouse itself sums up, a third of the filters, since each statement takes it a tenth of a second."""
    store = store_of(paths)
    for asked in [*FILTERS[::3], {"min_cost": 0.1}, {"agents": ["nobody"]}]:
        where = log.Filter.parse(**asked)
        expected = summed(store.summaries(where, facts=True), ["tenant", "odd'name"])
        assert log.statistics(paths, where, tags=["tenant", "odd'name"]) == expected, asked


@given(st.lists(st.none() | st.floats(1e-12, 1e6) | st.sampled_from([0.0, 0.1, 0.2, 3.5]), max_size=40))
@example([1.7629479969618842, 48574.76294799696, 999999.762947997])  # the last digit needs an exact sum
@settings(parent=QUICK, max_examples=30)
def test_quantiles_and_sums_of_clickhouse_are_exactly_those_of_files(client: Any, values: list[float | None]) -> None:
    known = ", ".join("NULL" if value is None else repr(value) for value in values)
    row = client.raw_query(
        f"SELECT {sql_values_at_ranks('seconds')}, length(seconds), total FROM (SELECT "
        f"arraySort(groupArray(value)) AS seconds, {sql_exact_sum('value')} AS total "
        f"FROM (SELECT arrayJoin(CAST([{known}], 'Array(Nullable(Float64))')) AS value)) FORMAT JSONCompactEachRow"
    )
    at_ranks, count, total = json.loads(row)
    assert quantiles_from(int(count), total, at_ranks) == quantiles(values)


def test_a_run_is_called_by_its_id_or_a_part_of_it(paths: str) -> None:
    store = store_of(paths)
    assert [run.run_id for run in store.called("run1")] == ["run1"]
    assert [run.run_id for run in store.called("uter")] == ["outer"]
    assert sorted(run.run_id for run in store.called("run")) == ["run1", "run2"]
    assert store.called("none") == []


def test_pages_of_conversations_are_the_list_by_any_filter(paths: str) -> None:
    """A fourth of the filters, since each one asks ClickHouse five times."""
    for asked in FILTERS[::4]:
        where = log.Filter.parse(**asked)
        expected = conversations_of(log.runs(paths), where)[::-1]
        pages = [conversation_page(paths, where, limit=1, offset=offset) for offset in (0, 1)]
        assert [each for page in pages for each in page.conversations] == expected[:2], asked
        assert {page.total for page in pages} == {len(expected)}, asked
        assert log.conversations(paths, where, last=1) == expected[:1], asked
        assert log.conversations(paths, where) == expected[::-1], asked


def results(paths: str) -> Any:
    """All results that readers return for a log, except file names and the order of lines."""
    runs = log.runs(paths)
    opened = [log.load_run(paths, run.run_id) for run in runs]
    hits = [
        [plain(hit) for hit in log.search(paths, text, ignore_case=True)] for text in ("monday", "grüße", "look_up")
    ]
    found = {
        "runs": plain(runs),
        "opened": [plain(run) for run in opened],
        "hits": [sorted(each, key=lambda hit: (hit["run_id"], hit["seq"], hit["start"])) for each in hits],
        "newest": [hit.run_id for hit in log.search(paths, "monday", ignore_case=True, newest_first=True)],
        "statistics": plain(log.statistics(paths, tags=["tenant"])),
        "conversations": plain(log.conversations(paths)),
        "errors": sorted((event.run_id, event.seq) for event in log.events(paths, types={"error"})),
        "difference": plain(log.diff(opened[0], opened[1])),
    }
    return without(found, {"files", "file", "line"})


def without(thing: Any, names: set[str]) -> Any:
    if isinstance(thing, dict):
        return {name: without(item, names) for name, item in thing.items() if name not in names}
    return [without(item, names) for item in thing] if isinstance(thing, list) else thing


def test_both_stores_tell_the_same(server: ClickHouseServer, tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", fleet())
    files, tables = results(str(tmp_path)), results(server.address())
    assert files.keys() == tables.keys()
    for name in files:
        assert tables[name] == files[name], name


def test_the_state_differs_after_something_was_written(server: ClickHouseServer, tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", fleet())
    for paths in (str(tmp_path), server.address()):
        assert store_of(paths).state() == store_of(paths).state()
    before = store_of(str(tmp_path)).state()
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.writelines(lines(run_events("later", minutes=9)))
    assert store_of(str(tmp_path)).state() != before


COMMANDS: list[tuple[str, ...]] = [
    ("runs", "{log}", "--agent", "digger"),
    ("runs", "{log}", "--sort", "cost", "-n", "2"),
    ("stats", "{log}", "--by", "tag:tenant"),
    ("search", "monday", "{log}", "-i"),
    ("errors", "{log}"),
    ("conversations", "{log}"),
    ("show", "outer", "--log", "{log}"),
    ("diff", "run1", "run2", "--log", "{log}"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_tells_the_same_of_an_address_as_of_a_folder(
    command: tuple[str, ...], server: ClickHouseServer, tmp_path: Path
) -> None:
    write(tmp_path / "log.jsonl", fleet())
    texts = [
        invoke(*(word.format(log=place) for word in command), "--json").stdout for place in (tmp_path, server.address())
    ]
    if command[0] == "search":  # one line for each hit, in the order of the log
        texts = [f"[{','.join(sorted(text.splitlines()))}]" for text in texts]
    files, tables = [without(json.loads(text), {"files", "file", "line"}) for text in texts]
    assert tables == files
    assert files


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("clickhouse://127.0.0.1:1/default", "cannot read clickhouse://127.0.0.1:1/default"),
        ("clickhouse://u:secret@127.0.0.1:1/default", "cannot read clickhouse://127.0.0.1:1/default"),
        ("clickhouse://host/a-b", "letters, digits and _ only"),
        ("clickhouse://host:x/", "no address"),
    ],
)
def test_an_address_that_cannot_be_read_is_told_without_its_password(path: str, words: str) -> None:
    with pytest.raises(SidestreamError, match=words) as caught:
        log.runs(path)
    assert "secret" not in str(caught.value)


def test_tables_that_are_not_there_are_told(server: ClickHouseServer) -> None:
    server.client().command("CREATE DATABASE IF NOT EXISTS empty")
    with pytest.raises(ConfigurationError, match="sidestream schema --clickhouse"):
        log.runs(server.address("empty"))
