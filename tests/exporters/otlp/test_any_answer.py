"""Arbitrary responses of an OTLP server lead to a known failure or a count of rejected spans."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess as Partial
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse as Response

from sidestream.errors import ExporterUnavailable
from sidestream_exporters import OTLPExporter
from tests.support.raw_server import raw_server
from tests.support.run_events import end, event_log, start

TOLD = event_log("run-1", start("run-1"), end())

codes = st.sampled_from([200, 200, 200, 202, 204, 304, 400, 404, 413, 429, 500, 503]) | st.integers(100, 999)
partial = st.builds(
    lambda rejected, words: Response(
        partial_success=Partial(rejected_spans=rejected, error_message=words)
    ).SerializeToString(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=20),
)
bodies = st.binary(max_size=60) | partial | partial.map(zlib.compress)
names = st.sampled_from(
    ["Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Retry-After", "Connection", "Location"]
)
values = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "1e400",
        "nan",
        "gzip",
        "deflate",
        "chunked",
        "close",
        "application/x-protobuf",
        "http://127.0.0.1:1/",
    ]
) | st.text("abc019 -:;=/,\x00\xff", max_size=12)
heads = st.lists(st.tuples(names, values), max_size=4)


def whole(code: int, head: list[tuple[str, str]], body: bytes) -> bytes:
    fields = [*head, ("Content-Length", str(len(body)))]
    lines = [f"HTTP/1.1 {code} Said", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


answers = st.builds(whole, codes, heads, bodies) | st.binary(max_size=100)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(answer=answers)
def test_is_a_failure_that_is_foreseen_or_a_count_of_what_was_refused(answer: bytes) -> None:
    with raw_server(answer) as (port, _):
        exporter = OTLPExporter(f"http://127.0.0.1:{port}", timeout=0.5)
        try:
            dropped = exporter.export(TOLD) or {}
        except ExporterUnavailable:
            dropped = {}
        finally:
            exporter.close()
    assert 0 <= sum(dropped.values()) <= len(TOLD), dropped
