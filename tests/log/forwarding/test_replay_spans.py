"""Spans replayed to a real OTLP endpoint: same ids, and after an outage exactly the missing spans."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from sidestream import Sidecar
from sidestream_exporters import JSONLExporter, OTLPExporter
from tests.support.forwarded_logs import run_of, spans_of, write
from tests.support.otlp_receiver import Answer, Received, http_receiver

pytestmark = pytest.mark.scenario_13


def sidestream(*arguments: str | Path, code: int = 0) -> Any:
    """JSON output of the command."""
    command = [sys.executable, "-c", "from sidestream.cli import main; main()", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def span_ids(received: Received) -> list[bytes]:
    return [span.span_id for span in received.spans]


def test_twice_is_once(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", [event for number in range(50) for event in run_of(f"run-{number}")])
    with http_receiver() as received:
        (first,) = sidestream("replay", tmp_path, "--to", f"otlp:{received.url}")
        ids = span_ids(received)
        (second,) = sidestream("replay", tmp_path, "--to", f"otlp:{received.url}")
    assert len(ids) == len(set(ids)) == 50 * spans_of() == first["spans"] == second["spans"]
    assert sorted(span_ids(received)[len(ids) :]) == sorted(ids)
    spans = {span.span_id: span for span in received.spans[: len(ids)]}
    for again in received.spans[len(ids) :]:
        assert again == spans[again.span_id]


def test_what_an_outage_left_out_is_replayed_and_nothing_else(tmp_path: Path) -> None:
    """The collector stops during the program, and is back after its end."""
    log, record = tmp_path / "runs", tmp_path / "delivered.jsonl"
    agent = Agent(TestModel(), name="clerk")

    @agent.tool_plain
    def look_up() -> str:
        return "found"

    with http_receiver() as before:
        port = int(before.url.rpartition(":")[2].partition("/")[0])
        otlp = OTLPExporter(before.url, record=str(record), interval=0.01, timeout=1)
        with Sidecar(JSONLExporter(log), otlp, close_timeout=3) as sidecar:
            sidecar.observe(agent)
            for _ in range(3):
                asyncio.run(agent.run("before"))
            assert sidecar.flush(30) == {}
            there = len(before.spans)
            before.answers[:] = [Answer(status=503)]
            for _ in range(4):
                asyncio.run(agent.run("meanwhile"))
        assert len(before.spans) == there == 3 * spans_of()
        assert sidecar.stats().exporters["otlp"].dropped == {
            "shutdown": sidecar.stats().exporters["otlp"].seen - sidecar.stats().exporters["otlp"].exported
        }
    with http_receiver(port=port) as after:
        to = f"otlp:{after.url}?record={record}"
        (done,) = sidestream("replay", log, "--to", to, "--only-missing")
        assert done["complete"]
        assert done["spans"] == len(after.spans) == 4 * spans_of()
        assert not {span.span_id for span in after.spans} & {span.span_id for span in before.spans}
        (done,) = sidestream("replay", log, "--to", to, "--only-missing")
        assert (done["spans"], done["chosen"]) == (0, 0)
        assert len(after.spans) == 4 * spans_of()


def test_an_endpoint_that_is_away_costs_the_exit_code(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", run_of("a"))
    (done,) = sidestream("replay", tmp_path, "--to", "otlp:http://127.0.0.1:9", "--patience", "0.1", code=1)
    assert (done["complete"], done["exported"]) == (False, 0)
    assert done["pending"] == done["chosen"] > 0


def test_a_lost_run_has_its_span(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", run_of("a", ended=False))
    with http_receiver() as received:
        (done,) = sidestream("replay", tmp_path, "--to", f"otlp:{received.url}")
    assert done["lost_runs"] == 1
    run = received.named("invoke_agent clerk")
    attributes = {each.key: each.value.string_value for each in run.attributes}
    assert attributes["sidestream.outcome"] == attributes["error.type"] == "lost"
    assert len(received.spans) == spans_of()
