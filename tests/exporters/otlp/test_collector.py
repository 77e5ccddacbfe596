"""Spans through a real collector, gRPC in and HTTP out, arrive unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidestream import Sidecar
from sidestream_exporters import OTLPExporter
from tests.support.loopback import until
from tests.support.otlp_agents import exporter_stats, observed_run
from tests.support.otlp_receiver import Received, attributes, http_receiver, names
from tests.support.rotel_collector import by_http, collector


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_run_arrives_behind_a_collector(protocol: str, tmp_path: Path) -> None:
    with http_receiver() as behind, collector(tmp_path, *by_http(behind.url)) as (grpc, http):
        url = grpc if protocol == "grpc" else http
        with Sidecar(OTLPExporter(url, protocol=protocol, interval=0.02, compression="gzip")) as sidecar:
            observed_run(sidecar)
            assert sidecar.flush(30) == {}
            assert exporter_stats(sidecar).exported == exporter_stats(sidecar).seen
        until(lambda: len(behind.spans) >= 4, 60)
    check(behind)


def check(behind: Received) -> None:
    assert names(behind.spans) == sorted(
        ["chat function::_stream", "chat function::_stream", "execute_tool look", "invoke_agent support"]
    )
    run = behind.named("invoke_agent support")
    assert {span.parent_span_id for span in behind.spans if span is not run} == {run.span_id}
    assert len({span.trace_id for span in behind.spans}) == 1
    assert attributes(run)["sidestream.outcome"] == "completed"
    (resource,) = {str(each.resource_spans[0].resource.attributes) for each in behind.requests}
    assert "service.instance.id" in resource
