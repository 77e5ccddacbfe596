"""ClickHouse exporter: repeated events count once, and content is stored apart from numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from sidestream import Sidecar, log
from sidestream.clickhouse.schema import RUNS, VERSIONS, Migration, migrations
from sidestream.errors import ConfigurationError, ExporterUnavailable
from sidestream.pipeline.registry import make_exporter
from sidestream_exporters.clickhouse import ClickHouseExporter
from sidestream_exporters.clickhouse import exporter as exporter_module
from tests.support.clickhouse_server import ClickHouseServer, clickhouse
from tests.support.command_line import invoke
from tests.support.log_builder import run_events


@pytest.fixture(scope="module")
def server() -> Iterator[ClickHouseServer]:
    with clickhouse() as running:
        yield running


@pytest.fixture
def database(server: ClickHouseServer, request: pytest.FixtureRequest) -> str:
    name = f"test_{abs(hash(request.node.name)):x}"
    server.client().command(f"CREATE DATABASE {name}")
    return name


def test_what_is_sent_twice_counts_once(server: ClickHouseServer, database: str) -> None:
    exporter = ClickHouseExporter(server.address(database), content="full")
    exporter.start()
    events = run_events("one")
    for batch in (events, events[3:9], events[-1:]):
        exporter.export(batch)
    exporter.close()
    (run,) = log.runs(server.address(database))
    assert (run.events, run.missing, run.duplicates, run.cost_usd, run.tool_calls) == (16, 0, 0, 0.03, 1)
    total = (
        f"SELECT sum(cost_usd) FROM (SELECT max(cost_usd) AS cost_usd FROM {database}.sidestream_runs GROUP BY run_id)"
    )
    assert server.client().query(total).result_rows == [(0.03,)]


def test_numbers_have_no_content_and_content_is_what_the_policy_lets_out(
    server: ClickHouseServer, database: str
) -> None:
    exporter = ClickHouseExporter(server.address(database), content="full")
    exporter.start()
    exporter.export(run_events("one"))
    client = server.client()
    rows = client.query(f"SELECT numbers, content FROM {database}.sidestream_events WHERE event_type = 'agent_start'")
    ((numbers, content),) = rows.result_rows
    assert "prompt of one" not in numbers
    assert "prompt of one" in content
    # As after the retention time of content.
    client.command(f"ALTER TABLE {database}.sidestream_events UPDATE content = '' WHERE 1 SETTINGS mutations_sync = 1")
    run = log.load_run(server.address(database), "one")
    assert (run.prompt, run.summary.cost_usd, len(run.events)) == (None, 0.03, 16)


def test_content_stays_unless_it_is_asked_for() -> None:
    assert ClickHouseExporter().content.mode == "none"


def test_the_books_of_a_sidecar_are_those_of_the_table(server: ClickHouseServer, database: str) -> None:
    with Sidecar(ClickHouseExporter(server.address(database), flush_interval=0.05)) as sidecar:
        agent = sidecar.observe(Agent(TestModel(), name="tested"))
        for _ in range(3):
            agent.run_sync("hello")
        sidecar.flush()
        books = sidecar.stats().exporters["clickhouse"]
    rows = server.client().query(f"SELECT count() FROM {database}.sidestream_events FINAL").result_rows
    assert books.seen == books.exported == rows[0][0]
    assert [run.outcome for run in log.runs(server.address(database))] == ["completed"] * 3


def test_a_server_that_is_away_is_waited_for(server: ClickHouseServer) -> None:
    exporter = ClickHouseExporter("clickhouse://u:secret@127.0.0.1:1/default", timeout=1)
    with pytest.raises(ExporterUnavailable) as caught:
        exporter.export(run_events("one"))
    assert "secret" not in str(caught.value)


def test_tables_that_are_not_there_yet_are_waited_for(server: ClickHouseServer) -> None:
    exporter = ClickHouseExporter(server.address("missing"), create=False)
    with pytest.raises(ExporterUnavailable, match="sidestream schema --clickhouse"):
        exporter.export(run_events("one"))


@pytest.mark.parametrize(
    ("address", "options"),
    [("clickhouse://h/a b", {}), ("h:x/db", {}), ("ftp://h/", {}), ("h/db?no=1", {}), ("h", {"days": 0})],
)
def test_settings_that_cannot_work_are_told(address: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="clickhouse: "):
        ClickHouseExporter(address, **options)


def test_it_is_installed_under_its_name() -> None:
    exporter = make_exporter("clickhouse:clickhouse://user:word@host:9/db?content=full&days=7")
    assert isinstance(exporter, ClickHouseExporter)
    assert exporter.content.mode == "full"


def test_the_printed_schema_makes_the_tables(server: ClickHouseServer, database: str) -> None:
    printed = invoke("schema", "--clickhouse", "--database", database, "--days", "7").stdout
    client = server.client()
    statements = [text for text in printed.split(";\n") if text.strip()]
    for statement in [*statements, *statements]:  # applying the statements twice has no further effect
        client.command(statement)
    exporter = ClickHouseExporter(server.address(database), create=False)
    exporter.export(run_events("one"))
    assert [run.run_id for run in log.runs(server.address(database))] == ["one"]
    steps = json.loads(invoke("schema", "--clickhouse", "--json").stdout)
    assert [step["number"] for step in steps] == list(range(1, len(steps) + 1))


def test_tables_of_an_earlier_version_are_upgraded_and_keep_their_rows(
    server: ClickHouseServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version adds a column to the runs and replaces the view that fills them."""

    def later(name: str, **days: int) -> list[Migration]:
        first = migrations(name, **days)
        view = first[0].statements[-1]
        counted = view.replace(
            "SELECT\n    run_id,", "SELECT\n    run_id,\n    maxIf(1, event_type = 'error') AS failed,"
        )
        assert counted != view
        added = [
            f"ALTER TABLE {name}.{RUNS} ADD COLUMN failed SimpleAggregateFunction(max, UInt8)",
            f"DROP VIEW {name}.{RUNS}_from_events",
            counted,
        ]
        return [*first, Migration(number=2, title="whether a run has an error", statements=added)]

    client, address = server.client(), server.address(database)
    steps = f"SELECT number, count() FROM {database}.{VERSIONS} GROUP BY number ORDER BY number"
    with closing(ClickHouseExporter(address)) as exporter:
        exporter.start()
        exporter.export(run_events("before"))
    assert client.query(steps).result_rows == [(1, 1)]
    monkeypatch.setattr(exporter_module, "migrations", later)
    for _ in range(2):  # an applied migration is not applied again: a second ADD COLUMN would be refused
        with closing(ClickHouseExporter(address)) as exporter:
            exporter.start()
            exporter.export(run_events("after"))
    assert client.query(steps).result_rows == [(1, 1), (2, 1)]
    found = client.query(f"SELECT run_id, max(failed) FROM {database}.{RUNS} GROUP BY run_id ORDER BY run_id")
    assert found.result_rows == [("after", 1), ("before", 0)]
    assert {run.run_id: run.events for run in log.runs(address)} == {"before": 16, "after": 16}
