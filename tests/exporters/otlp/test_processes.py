"""OTLP exporter at the end of a program and after a fork, which never uses the parent's connection."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.support.loopback import until
from tests.support.otlp_receiver import Answer, Received, attributes, grpc_receiver, http_receiver, nobody
from tests.support.paths import ROOT

pytestmark = pytest.mark.scenario_15

Receiver = Callable[..., AbstractContextManager[Received]]
BOTH = [
    pytest.param(http_receiver, "http/protobuf", id="http"),
    pytest.param(grpc_receiver, "grpc", id="grpc"),
]
HERE = str(ROOT)


def program(code: str, url: str, protocol: str, *, seconds: float = 100.0) -> subprocess.CompletedProcess[str]:
    prelude = f"""
        import os, sys, time
        sys.path.insert(0, {HERE!r})
        from tests.support.otlp_agents import observed_run, exporter_stats
        from sidestream import Sidecar
        from sidestream_exporters import OTLPExporter
        def otlp(**options):
            return OTLPExporter({url!r}, protocol={protocol!r}, **{{"interval": 0.02, **options}})
    """
    source = textwrap.dedent(prelude) + textwrap.dedent(code)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=seconds, env=environment, check=False
    )


@pytest.mark.parametrize(("receiver", "protocol"), BOTH)
def test_a_program_that_just_ends_has_delivered(receiver: Receiver, protocol: str) -> None:
    """Spans are delivered at interpreter exit, before which the exporter sends nothing."""
    with receiver() as received:
        done = program("sidecar = Sidecar(otlp(interval=3600))\nobserved_run(sidecar)", received.url, protocol)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(received.spans) == 4


@pytest.mark.parametrize(("receiver", "protocol"), BOTH)
def test_a_program_whose_endpoint_hangs_ends_in_its_time(receiver: Receiver, protocol: str) -> None:
    with receiver(Answer(delay=600.0)) as received:
        code = "sidecar = Sidecar(otlp(timeout=600), close_timeout=0.3)\nobserved_run(sidecar)"
        done = program(code, received.url, protocol)
        assert done.returncode == 0
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_program_without_an_endpoint_ends_and_says_so(protocol: str) -> None:
    with nobody() as port:
        done = program("sidecar = Sidecar(otlp())\nobserved_run(sidecar)", f"http://127.0.0.1:{port}", protocol)
    assert done.returncode == 0
    assert "keeping events" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_forked_child_has_a_connection_and_an_identity_of_its_own() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    code = """
        sidecar = Sidecar(otlp())
        observed_run(sidecar)
        assert sidecar.flush(30) == {}
        child = os.fork()
        observed_run(sidecar)
        assert sidecar.flush(30) == {}
        if child:
            assert os.waitpid(child, 0)[1] == 0
        else:
            os._exit(0 if exporter_stats(sidecar).exported == exporter_stats(sidecar).seen > 0 else 1)
    """
    with http_receiver() as received:
        done = program(code, received.url, "http/protobuf")
        assert (done.returncode, done.stderr) == (0, "")
        until(lambda: len(received.spans) == 12)
        instances = [attributes(request.resource_spans[0].resource) for request in received.requests]
        assert len({each["service.instance.id"] for each in instances}) == 2
        assert len({span.span_id for span in received.spans}) == 12
