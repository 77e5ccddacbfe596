"""Program started inside a span of another program: `TRACEPARENT` in the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

PROGRAM = """
import asyncio, sys
from opentelemetry import trace
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from sidestream import Sidecar

child = Agent(TestModel(), name="child")
parent = Agent(TestModel(), name="parent")

@parent.tool_plain
async def delegate() -> str:
    return (await child.run("go")).output

with Sidecar(f"jsonl:{sys.argv[1]}") as sidecar:
    sidecar.observe(child), sidecar.observe(parent)
    asyncio.run(parent.run("go"))
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1)))
    with trace.use_span(span):
        asyncio.run(child.run("go"))
"""


def starts(log: Path, traceparent: str | None) -> tuple[list[dict[str, Any]], str]:
    """`agent_start` of the parent, its sub-agent, and a run inside a span; and the output of the program."""
    environment = {name: value for name, value in os.environ.items() if name != "TRACEPARENT"}
    environment |= {"PYDANTIC_AI_NO_BANNER": "1"} | ({} if traceparent is None else {"TRACEPARENT": traceparent})
    command = [sys.executable, "-c", PROGRAM, str(log)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=100)
    lines = [json.loads(line) for file in log.glob("*.jsonl") for line in file.read_text("utf-8").splitlines()]
    return [line["data"] for line in lines if line["event_type"] == "agent_start"], done.stderr


def test_it_is_the_parent_of_runs_that_have_none(tmp_path: Path) -> None:
    (parent, child, inside), said = starts(tmp_path, f"00-{TRACE}-{SPAN}-01")
    assert (parent["trace_id"], parent["parent_span_id"]) == (TRACE, SPAN)
    assert child["trace_id"] == TRACE
    assert child["parent_span_id"] not in (SPAN, parent["span_id"], None), "the tool call's"
    assert (inside["trace_id"], inside["parent_span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert said == ""


@pytest.mark.parametrize("malformed", ["nonsense", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01"])
def test_a_malformed_one_is_ignored_and_told_once(malformed: str, tmp_path: Path) -> None:
    (parent, _, _), said = starts(tmp_path, malformed)
    assert "parent_span_id" not in parent
    assert parent["trace_id"] != TRACE
    assert said.count("TRACEPARENT") == 1
    assert malformed not in said
