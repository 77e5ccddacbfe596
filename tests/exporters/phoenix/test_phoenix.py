"""Spans read back from Arize Phoenix: recognized attributes, and an equal cost of the run."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from sidestream import InMemoryExporter, Sidecar
from sidestream_exporters import OTLPExporter
from tests.support.phoenix_server import Phoenix, phoenix, require_phoenix

pytestmark = pytest.mark.timeout(600)
MODEL = "gpt-4o-mini"


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    require_phoenix()
    with phoenix(tmp_path_factory.mktemp("phoenix")) as running:
        yield running


def _answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    calls = info.function_tools and not any(isinstance(message, ModelResponse) for message in messages)
    return ModelResponse(
        [ToolCallPart("ask", {"question": "how far?"}, "call-1") if calls else TextPart("384,400 km")],
        usage=RequestUsage(input_tokens=1_000, output_tokens=200, cache_read_tokens=400),
        provider_name="openai",
        finish_reason="tool_call" if calls else "stop",
    )


@pytest.fixture(scope="session")
def traced(backend: Phoenix) -> tuple[list[dict[str, Any]], InMemoryExporter]:
    """Run with a tool that calls a sub-agent: its spans as returned by the back end, and its events."""
    model, memory = FunctionModel(_answer, model_name=MODEL), InMemoryExporter()
    helper, agent = Agent(model, name="helper"), Agent(model, name="support", instructions="be brief")

    @agent.tool_plain
    async def ask(question: str) -> str:
        return (await helper.run(question)).output

    with Sidecar(OTLPExporter(backend.url, content="full", interval=0.05), memory) as sidecar:
        sidecar.observe(agent)
        sidecar.observe(helper)
        assert asyncio.run(agent.run("how far is the moon?")).output == "384,400 km"
        assert sidecar.flush(60) == {}
    trace_id = memory.of("agent_start")[0].data.trace_id
    deadline = time.monotonic() + 120
    while True:
        spans = backend.spans(trace_id)
        if len(spans) == 6 and all(span["costSummary"] for span in spans if span["spanKind"] == "llm"):
            return spans, memory
        assert time.monotonic() < deadline, spans
        time.sleep(0.05)


Traced = tuple[list[dict[str, Any]], InMemoryExporter]


def test_it_knows_what_each_span_is(traced: Traced) -> None:
    spans, _ = traced
    assert sorted((span["spanKind"], span["name"]) for span in spans) == [
        ("agent", "invoke_agent helper"),
        ("agent", "invoke_agent support"),
        ("llm", f"chat {MODEL}"),
        ("llm", f"chat {MODEL}"),
        ("llm", f"chat {MODEL}"),
        ("tool", "execute_tool ask"),
    ]
    assert {span["statusCode"] for span in spans} == {"UNSET"}


def test_the_tree_is_the_tree(traced: Traced) -> None:
    spans, _ = traced
    by_id = {span["spanId"]: span["name"] for span in spans}
    parents = sorted((span["name"], by_id.get(span["parentId"])) for span in spans)
    assert parents == [
        (f"chat {MODEL}", "invoke_agent helper"),
        (f"chat {MODEL}", "invoke_agent support"),
        (f"chat {MODEL}", "invoke_agent support"),
        ("execute_tool ask", "invoke_agent support"),
        ("invoke_agent helper", "execute_tool ask"),
        ("invoke_agent support", None),
    ]


def test_it_reads_tokens_and_finish_reasons(traced: Traced) -> None:
    spans, _ = traced
    chats = [span for span in spans if span["spanKind"] == "llm"]
    assert [(span["tokenCountPrompt"], span["tokenCountCompletion"]) for span in chats] == [(1_000, 200)] * 3
    told = [json.loads(span["attributes"]) for span in chats]
    assert sorted(each["llm"]["finish_reason"] for each in told) == ["stop", "stop", "tool_call"]
    assert {each["llm"]["token_count"]["prompt_details"]["cache_read"] for each in told} == {400}
    assert {each["llm"]["model_name"] for each in told} == {MODEL}


def test_it_reads_the_messages(traced: Traced) -> None:
    spans, _ = traced
    told = [json.loads(span["attributes"]) for span in spans if span["spanKind"] == "llm"]
    asked = [message["message"].get("content") for each in told for message in each["llm"]["input_messages"]]
    assert "how far is the moon?" in asked
    (tool,) = [json.loads(span["attributes"]) for span in spans if span["spanKind"] == "tool"]
    assert tool["tool"]["parameters"] == {"question": "how far?"}


def test_its_price_is_ours(traced: Traced) -> None:
    spans, memory = traced
    ours = sum(event.data.cost_usd for event in memory.of("agent_end"))
    theirs = sum(span["costSummary"]["total"]["cost"] for span in spans if span["costSummary"])
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert ours == pytest.approx(3 * (600 * 0.15 + 400 * 0.075 + 200 * 0.6) / 1e6, rel=1e-6)


def test_the_same_spans_again_change_nothing(backend: Phoenix, traced: Traced) -> None:
    """A replay of the log sends equal ids, and so the same trace."""
    spans, memory = traced
    exporter = OTLPExporter(backend.url, content="full")
    assert exporter.export(memory.events) is None
    exporter.close()
    trace_id = memory.of("agent_start")[0].data.trace_id
    again = backend.spans(trace_id)
    assert sorted(span["spanId"] for span in again) == sorted(span["spanId"] for span in spans)
