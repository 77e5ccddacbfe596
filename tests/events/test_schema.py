"""JSON Schema of the log: generated, committed, and valid for every line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import sidestream
from sidestream import InMemoryExporter, Sidecar, StreamEventType, encode_line
from sidestream.events import json_schema
from tests.support.provider_model import run_variety

SCHEMA_FILE = Path(sidestream.__file__).parent / "events" / "event.schema.json"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Lines of a real log: runs of every kind, with full and with no content."""
    folder = tmp_path_factory.mktemp("logs")
    with Sidecar(
        f"jsonl:{folder}/full", f"jsonl:{folder}/none?content=none", f"jsonl:{folder}/all?chunks=all"
    ) as sidecar:
        run_variety(sidecar)
        sidecar.score("a-run", "helpful", 0.5, label="so-so", comment="too long")
    return [json.loads(line) for file in folder.rglob("*.jsonl") for line in file.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text("utf-8")))


def test_the_schema_file_is_what_the_types_say() -> None:
    """The committed file equals the generated one (`sidestream schema >
    telemetry/sidestream/events/event.schema.json`)."""
    assert SCHEMA_FILE.read_text("utf-8") == json.dumps(json_schema(), indent=2) + "\n"


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_every_line_of_a_log_is_valid(log: list[dict[str, Any]], validator: jsonschema.Draft202012Validator) -> None:
    """Covers every event type, streamed and not: tools, retries, errors, sub-agents, fallbacks, custom events."""
    assert {line["event_type"] for line in log} == set(StreamEventType)
    assert {line["data"]["outcome"] for line in log if line["event_type"] == "agent_end"} >= {
        "completed",
        "error",
        "cancelled",
        "abandoned",
    }
    assert any("failed_attempts" in line["data"] for line in log)
    for line in log:
        validator.validate(line)


MUTATIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "unknown type": lambda line: line.update(event_type="agent_exploded"),
    "no type": lambda line: line.pop("event_type"),
    "a type that is not its payload's": lambda line: line.update(
        event_type="agent_start" if line["event_type"] == "agent_end" else "agent_end"
    ),
    "no data": lambda line: line.pop("data"),
    "data that is no object": lambda line: line.update(data=[]),
    "seq as text": lambda line: line.update(seq="0"),
    "offset as text": lambda line: line.update(offset="0.1"),
    "no timestamp": lambda line: line.pop("timestamp"),
    "a later version": lambda line: line.update(v=2),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_line_that_was_tampered_with_is_invalid(
    mutation: str, log: list[dict[str, Any]], validator: jsonschema.Draft202012Validator
) -> None:
    for event_type in StreamEventType:
        line = json.loads(json.dumps(next(line for line in log if line["event_type"] == event_type)))
        MUTATIONS[mutation](line)
        assert not validator.is_valid(line), f"{event_type}: {mutation}"


def test_a_payload_field_of_the_wrong_type_is_invalid(
    log: list[dict[str, Any]], validator: jsonschema.Draft202012Validator
) -> None:
    """Covers every payload field with a declared type: numbers, texts, choices."""
    checked, tried = set(), set()
    for line in log:
        for name, value in line["data"].items():
            if (line["event_type"], name, type(value)) in tried:
                continue
            tried.add((line["event_type"], name, type(value)))
            if isinstance(value, bool | int | float) or name in ("outcome", "kind", "where", "usage_source"):
                wrong = {**line, "data": {**line["data"], name: "no such thing"}}
                if not validator.is_valid(wrong):
                    checked.add(name)
    assert checked >= {"request", "duration_seconds", "outcome", "kind", "streaming", "chunks", "stalls", "attempt"}
    assert checked >= {"total_tokens", "total_cost_usd", "success", "sub_agents", "where", "usage_source", "cost_usd"}


def test_the_line_of_an_exporter_is_the_line_of_the_contract(log: list[dict[str, Any]]) -> None:
    """The JSONL exporter writes `encode_line`, with the type first, so that readers can skip lines without decoding."""
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        run_variety(sidecar)
        sidecar.score("a-run", "helpful", 0.5, label="so-so", comment="too long")
    assert all(encode_line(event).startswith(b'{"event_type":"') for event in memory)
    assert all(next(iter(line)) == "event_type" for line in log)
