"""The board of one run: its queries, asked of a made-up log and its spans as Loki and Tempo hold them.

Neither program is to be had where the tests run: `tests/support/logs_and_traces.py` answers for them.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from sidestream.demo.generate import generate
from sidestream.events import StreamEvent, decode_line
from sidestream_exporters.otlp.runs import Span
from tests.support.board_files import FOLDER, LOGS, TRACES, Asked, Json, boards, queries
from tests.support.logs_and_traces import at, lines_found, spans_found, spans_of

BOARD = "sidestream-run"
ASKED = {str(query): query for source in (LOGS, TRACES) for query in queries(source=source)}
EVERY_AGENT = ".*"
PROVISIONED = FOLDER / "provisioning/datasources/sidestream.yaml"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Lines of some hundred runs: with tools, sub-agents, conversations and failures."""
    path = generate(tmp_path_factory.mktemp("log"), events=3_000, until=datetime(2026, 11, 26, tzinfo=UTC))
    return Path(path).read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def lines(log: list[str]) -> list[Json]:
    return [json.loads(line) for line in log]


@pytest.fixture(scope="module")
def spans(log: list[str]) -> list[Span]:
    return spans_of(event for event in map(decode_line, log) if isinstance(event, StreamEvent))


@pytest.fixture(scope="module")
def chosen(lines: list[Json]) -> dict[str, str]:
    """The values of the board's variables: a run with a tool call, in a conversation."""
    called = {line["run_id"] for line in lines if line["event_type"] == "tool_end"}
    ended = {line["run_id"] for line in lines if line["event_type"] == "agent_end"}
    start = next(
        line
        for line in lines
        if line["event_type"] == "agent_start"
        and line["data"].get("conversation_id")
        and line["run_id"] in called & ended
    )
    return {
        "stream:raw": 'job="sidestream"',
        "agent:regex": EVERY_AGENT,
        "run": start["run_id"],
        "trace": start["data"]["trace_id"],
        "conversation": start["data"]["conversation_id"],
    }


def filled(query: Asked, chosen: dict[str, str]) -> str:
    text = query.expr
    for name, value in chosen.items():
        text = text.replace(f"${{{name}}}", value)
    assert "$" not in text, text
    return text


def test_the_board_asks_logs_and_traces() -> None:
    assert {query.board for query in ASKED.values()} == {BOARD}
    assert {panel["type"] for panel in boards()[BOARD]["panels"]} >= {"logs", "traces", "table"}


def asked_of(source: str) -> list[Asked]:
    return [query for query in ASKED.values() if query.target["datasource"]["type"] == source]


@pytest.mark.parametrize("query", asked_of(LOGS), ids=str)
def test_a_query_of_the_log_finds_lines_with_every_field_of_its_columns(
    query: Asked, lines: list[Json], chosen: dict[str, str]
) -> None:
    found = lines_found(filled(query, chosen), lines)
    assert found
    for extract in query.panel.get("transformations", ()):
        for path in extract["options"]["jsonPaths"]:
            assert any(at(line, path["path"]) is not None for line in found), path


@pytest.mark.parametrize("query", [query for query in asked_of(TRACES) if "{ " in query.expr], ids=str)
def test_a_query_of_traces_finds_spans_with_every_attribute_of_its_columns(
    query: Asked, spans: list[Span], chosen: dict[str, str]
) -> None:
    selected, found = spans_found(filled(query, chosen), spans)
    assert found
    for name in selected:
        assert any(span.attributes.get(name) is not None for span in found), name
    [order] = [each["options"] for each in query.panel["transformations"] if each["id"] == "organize"]
    assert set(order["indexByName"]) == {"time", "Start time", *selected, "duration"}


def test_the_trace_that_is_shown_is_the_one_of_the_run(spans: list[Span], chosen: dict[str, str]) -> None:
    [query] = [query for query in asked_of(TRACES) if "{ " not in query.expr]
    shown = [span for span in spans if f"{span.trace_id:032x}" == filled(query, chosen)]
    assert chosen["run"] in {span.run_id for span in shown}


def test_ids_in_a_line_of_the_log_lead_to_the_run_and_its_trace(log: list[str]) -> None:
    """By the expressions of the data source, applied to lines as they are written."""
    provisioned = yaml.safe_load(PROVISIONED.read_text("utf-8"))
    [loki] = [source for source in provisioned["datasources"] if source["type"] == LOGS]
    text = next(line for line in log if '"agent_start"' in line and '"parent_run_id"' in line)
    line = json.loads(text)
    led = {
        field["urlDisplayLabel"]: found[1]
        for field in loki["jsonData"]["derivedFields"]
        if (found := re.search(field["matcherRegex"], text))
    }
    assert led == {
        "Open the run in the log": line["run_id"],
        "The run on its board": line["run_id"],
        "Find its trace": line["run_id"],
        "Open the trace": line["data"]["trace_id"],
    }


def test_links_of_the_data_sources_set_variables_of_the_board() -> None:
    addresses = re.findall(rf"/d/{BOARD}\?(\S+)", PROVISIONED.read_text("utf-8"))
    assert len(addresses) == 2
    variables = {each["name"] for each in boards()[BOARD]["templating"]["list"]}
    assert {name for address in addresses for name in re.findall(r"var-(\w+)=", address)} == {"run", "trace"}
    assert {"run", "trace"} <= variables
