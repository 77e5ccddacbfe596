"""Through a real collector: gRPC in, HTTP out, and nothing changes on the way."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from sidestream import Sidecar
from sidestream_exporters import OTLPExporter
from tests.support.loopback import free_port, until
from tests.support.otlp_agents import exporter_stats, observed_run
from tests.support.otlp_receiver import Received, attributes, http_receiver, names


@pytest.fixture
def rotel() -> str:
    """The collector's program."""
    spec = find_spec("rotel")
    if spec is None or spec.origin is None:
        reason = "rotel, a collector that installs from PyPI, is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return str(Path(spec.origin).parent / "rotel-agent")


@contextmanager
def collector(program: str, folder: Path, to: str) -> Iterator[tuple[str, str]]:
    """A collector that hands on to `to`; gives its addresses for gRPC and for HTTP."""
    ports = [free_port(), free_port()]
    command = [program, "start", "--pid-file", str(folder / "pid"), "--batch-timeout", "50ms"]
    command += ["--otlp-grpc-endpoint", f"127.0.0.1:{ports[0]}", "--otlp-http-endpoint", f"127.0.0.1:{ports[1]}"]
    command += ["--exporter", "otlp", "--otlp-exporter-endpoint", to, "--otlp-exporter-protocol", "http"]
    with (folder / "rotel.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            until(lambda: process.poll() is not None or all(map(_listens, ports)), 60)
            assert process.poll() is None, (folder / "rotel.log").read_text()
            yield f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"
        finally:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_run_arrives_behind_a_collector(protocol: str, rotel: str, tmp_path: Path) -> None:
    with http_receiver() as behind, collector(rotel, tmp_path, behind.url) as (grpc, http):
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
