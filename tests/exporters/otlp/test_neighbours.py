"""OTLP exporter beside pydantic-ai's Instrumentation and an application's own provider; the ledger of deliveries."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.instrumented import InstrumentationSettings

from sidestream import ConfigurationError, Sidecar
from sidestream.events import ToolEnd, ToolStart
from sidestream_exporters import OTLPExporter
from tests.support.otlp_agents import ANSWER, SENTINEL, exporter_stats, make_agent, observed_run, run_once
from tests.support.otlp_receiver import Answer, attributes, http_receiver, names
from tests.support.run_events import end, event_log, start


def otlp(url: str, **options: Any) -> OTLPExporter:
    return OTLPExporter(url, interval=0.02, **options)


@pytest.fixture
def theirs() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    """Tracer provider of an application, and its exported spans."""
    provider, memory = TracerProvider(resource=Resource({"service.name": "theirs"})), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    yield provider, memory
    provider.shutdown()


class TestInstrumentation:
    """Agent that pydantic-ai's Instrumentation traces too."""

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            ("run", ["invoke_agent support"]),
            ("none", []),
            ("all", ["chat function::_stream"] * 2 + ["execute_tool look", "invoke_agent support"]),
        ],
    )
    def test_what_is_made_of_its_runs(
        self,
        choice: Any,
        expected: list[str],
        theirs: tuple[TracerProvider, InMemorySpanExporter],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        provider, memory = theirs
        agent = make_agent()
        agent.instrument = InstrumentationSettings(tracer_provider=provider)
        with http_receiver() as received:
            with Sidecar(otlp(received.url, instrumented=choice)) as sidecar:
                sidecar.observe(agent)
                for _ in range(2):
                    assert asyncio.run(run_once(agent)) == ANSWER
                assert sidecar.flush(30) == {}
        assert names(received.spans) == sorted(expected * 2)
        own = {span.context.span_id: span for span in memory.get_finished_spans()}
        for span in received.spans:
            if span.name.startswith("invoke_agent"):
                parent = own[int.from_bytes(span.parent_span_id)]
                assert parent.context.trace_id == int.from_bytes(span.trace_id)
                assert attributes(span)["sidestream.outcome"] == "completed"
        lines = [record.getMessage() for record in caplog.records if "Instrumentation" in record.getMessage()]
        assert len(lines) == 1
        assert "instrumented=run, all or none" in lines[0]

    def test_nothing_is_said_of_an_agent_without(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        with http_receiver() as received, Sidecar(otlp(received.url)) as sidecar:
            observed_run(sidecar)
            sidecar.flush(30)
        assert "Instrumentation" not in caplog.text
        assert Instrumentation is not None


class TestAProviderOfTheApplication:
    def test_gets_the_spans_under_its_own_resource(self, theirs: tuple[TracerProvider, InMemorySpanExporter]) -> None:
        provider, memory = theirs
        with Sidecar(OTLPExporter(tracer_provider=provider, interval=0.02)) as sidecar:
            observed_run(sidecar)
            assert sidecar.flush(30) == {}
            assert exporter_stats(sidecar).exported == exporter_stats(sidecar).seen
        finished = memory.get_finished_spans()
        assert names(finished) == sorted(
            ["chat function::_stream", "chat function::_stream", "execute_tool look", "invoke_agent support"]
        )
        assert {span.resource.attributes["service.name"] for span in finished} == {"theirs"}
        assert SENTINEL not in "".join(span.to_json() for span in finished)

    def test_gets_a_flush_when_the_sidecar_does(self) -> None:
        provider, memory = TracerProvider(), InMemorySpanExporter()
        provider.add_span_processor(BatchSpanProcessor(memory, schedule_delay_millis=3_600_000))
        with Sidecar(OTLPExporter(tracer_provider=provider, interval=0.02)) as sidecar:
            observed_run(sidecar)
            assert sidecar.flush(30) == {}
            assert len(memory.get_finished_spans()) == 4
        provider.shutdown()

    def test_the_global_one(
        self, theirs: tuple[TracerProvider, InMemorySpanExporter], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", theirs[0])
        with Sidecar(OTLPExporter(use_global=True, interval=0.02)) as sidecar:
            observed_run(sidecar)
            assert sidecar.flush(30) == {}
        assert len(theirs[1].get_finished_spans()) == 4

    def test_must_be_one_of_the_sdk(self) -> None:
        with pytest.raises(ConfigurationError, match="set_tracer_provider"):
            OTLPExporter(use_global=True)
        with pytest.raises(ConfigurationError, match="NoOpTracerProvider"):
            OTLPExporter(tracer_provider=trace.NoOpTracerProvider())  # type: ignore[arg-type]

    def test_is_instead_of_an_endpoint(self) -> None:
        with pytest.raises(ConfigurationError, match="one of"):
            OTLPExporter("http://c:4318", tracer_provider=TracerProvider())


class TestTheRecord:
    def test_notes_what_was_accepted_and_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "delivered.jsonl"
        tool = ToolStart(tool_name="look"), ToolEnd(tool_name="look", outcome="ok")
        with http_receiver(Answer(), Answer(status=400), Answer(rejected=1), Answer()) as received:
            exporter = OTLPExporter(received.url, record=str(path))
            for run_id in ("accepted", "refused", "in part"):
                exporter.export(event_log(run_id, start(run_id), *tool, end()))
            exporter.export(event_log("later", start("later"), end()))
            assert exporter.delivered() == {"accepted": {1, 0}, "later": {0}}
            exporter.close()
        assert [json.loads(line) for line in path.read_text().splitlines()] == [
            {"run_id": "accepted", "seqs": [1, 0]},
            {"run_id": "later", "seqs": [0]},
        ]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_is_read_past_a_line_that_was_torn(self, tmp_path: Path) -> None:
        path = tmp_path / "delivered.jsonl"
        path.write_text('{"run_id":"a","seqs":[0]}\n{"run_id":"b","se')
        assert OTLPExporter(record=str(path)).delivered() == {"a": {0}}

    def test_that_cannot_be_written_costs_nothing_else(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        folder = tmp_path / "gone"
        folder.mkdir()
        with http_receiver() as received:
            exporter = OTLPExporter(received.url, record=str(folder / "delivered.jsonl"))
            folder.rmdir()
            for run_id in ("a", "b"):
                assert exporter.export(event_log(run_id, start(run_id), end())) is None
            exporter.close()
            assert len(received.spans) == 2
        assert caplog.text.count("delivery record cannot be written") == 1


def test_a_batch_that_is_offered_again_is_built_once() -> None:
    """The delivered part of the batch is not sent twice."""
    with http_receiver(Answer(status=503), Answer()) as received, Sidecar(otlp(received.url)) as sidecar:
        observed_run(sidecar, runs=3)
        while exporter_stats(sidecar).pending:
            sidecar.flush(1)
        assert exporter_stats(sidecar).exported == exporter_stats(sidecar).seen
        ids = [span.span_id for span in received.spans]
        assert len(ids) == len(set(ids)) == 12


def test_the_same_log_twice_gives_the_same_spans() -> None:
    events = event_log("run-1", start("run-1"), ToolStart(tool_name="t"), ToolEnd(tool_name="t", outcome="ok"), end())
    bodies = []
    for _ in range(2):
        with http_receiver() as received:
            exporter = OTLPExporter(received.url)
            exporter.export(events)
            exporter.export(events)
            exporter.close()
            first, second = (
                [span.SerializeToString() for span in r.resource_spans[0].scope_spans[0].spans]
                for r in received.requests
            )
            assert first == second
            bodies.append(first)
    assert bodies[0] == bodies[1]


def test_content_of_none_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """No content in names, attributes, status, events, resource or log messages about failures."""
    caplog.set_level(logging.DEBUG, "sidestream")
    agent = make_agent()

    @agent.tool_plain(retries=0)
    def explode(q: str) -> str:
        raise ValueError(SENTINEL)

    with http_receiver(Answer(rejected=1), Answer(status=400), Answer()) as received:
        with Sidecar(otlp(received.url)) as sidecar:
            observed_run(sidecar)
            sidecar.observe(agent)
            for model_says in ("look", "explode"):
                with agent.override(model=_calling(model_says)):
                    with pytest.raises(Exception, match=SENTINEL):
                        asyncio.run(agent.run(SENTINEL))
                    sidecar.flush(30)
    assert received.bodies
    assert not [body for body in received.bodies if SENTINEL.encode() in body]
    assert SENTINEL not in caplog.text


def _calling(tool: str) -> Any:
    from pydantic_ai.messages import ModelResponse, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    def respond(messages: Any, info: Any) -> ModelResponse:
        if len(messages) > 1:
            raise RuntimeError(SENTINEL)
        return ModelResponse([ToolCallPart(tool, {"q": SENTINEL})])

    return FunctionModel(respond)


def test_a_disabled_sdk_exports_nothing_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
    with http_receiver() as received:
        with Sidecar(otlp(received.url), OTLPExporter(received.url)) as sidecar:
            observed_run(sidecar)
            assert sidecar.flush(30) == {}
            assert exporter_stats(sidecar).seen == 0
        assert received.requests == []
    assert caplog.text.count("OTEL_SDK_DISABLED") == 1
