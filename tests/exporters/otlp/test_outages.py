"""Outages of the endpoint: the caller's stream is unchanged, every event is accounted for, and delivery resumes."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import grpc
import pytest

from sidestream import Sidecar
from sidestream_exporters import OTLPExporter
from tests.support.loopback import until
from tests.support.otlp_agents import SENTINEL, exporter_stats, observed_run
from tests.support.otlp_receiver import Answer, Received, grpc_receiver, http_receiver, names, nobody, talker

pytestmark = pytest.mark.scenario_13

Receiver = Callable[..., AbstractContextManager[Received]]
SPANS = sorted(["chat function::_stream", "chat function::_stream", "execute_tool look", "invoke_agent support"])
BOTH = [
    pytest.param(http_receiver, "http/protobuf", id="http"),
    pytest.param(grpc_receiver, "grpc", id="grpc"),
]


def otlp(url: str, **options: Any) -> OTLPExporter:
    return OTLPExporter(url, **{"interval": 0.02, "timeout": 20.0, **options})


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Log messages about the endpoint, which never hold content or text of the server."""
    lines = [record.getMessage() for record in caplog.records if record.name == "sidestream"]
    assert not any(SENTINEL in line or "SENTINEL" in line for line in lines)
    return [line for line in lines if "OTLP" in line]


@pytest.mark.parametrize(("receiver", "protocol"), BOTH)
def test_all_is_well(receiver: Receiver, protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    with receiver() as received:
        with Sidecar(otlp(received.url, protocol=protocol)) as sidecar:
            observed_run(sidecar)
            assert sidecar.flush(30) == {}
            stats = exporter_stats(sidecar)
    assert stats.exported == stats.seen > 0
    assert names(received.spans) == SPANS
    assert said(caplog) == []


@pytest.mark.parametrize(("receiver", "protocol"), BOTH)
def test_down_from_start_to_end(receiver: Receiver, protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """Events are kept during the run, and counted as dropped when the program ends."""
    with nobody() as port:
        sidecar = Sidecar(otlp(f"http://127.0.0.1:{port}", protocol=protocol))
        observed_run(sidecar)
        until(lambda: exporter_stats(sidecar).failures >= 2)
        before = exporter_stats(sidecar)
        assert before.exported < before.seen  # a batch without an ended span sends no request
        assert before.pending == before.seen - before.exported
        sidecar.close()
    assert exporter_stats(sidecar).dropped == {"shutdown": before.pending}
    (line,) = said(caplog)
    assert "keeping events" in line


@pytest.mark.parametrize(("receiver", "protocol"), BOTH)
def test_down_and_then_back_loses_and_doubles_nothing(
    receiver: Receiver, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with ExitStack() as stack:
        with nobody() as port:
            sidecar = stack.enter_context(Sidecar(otlp(f"http://127.0.0.1:{port}", protocol=protocol)))
            observed_run(sidecar)
            until(lambda: exporter_stats(sidecar).failures >= 1)
        with receiver(port=port) as received:
            until(lambda: exporter_stats(sidecar).pending == 0)
            stats = exporter_stats(sidecar)
    assert stats.exported == stats.seen
    assert names(received.spans) == SPANS
    assert [line.split(" endpoint=")[0] for line in said(caplog)] == [
        "OTLP endpoint cannot take spans now, keeping events and trying again",
        "OTLP endpoint works again",
    ]


@pytest.mark.parametrize(
    ("receiver", "protocol", "answer"),
    [
        pytest.param(http_receiver, "http/protobuf", Answer(status=503), id="503"),
        pytest.param(http_receiver, "http/protobuf", Answer(status=429), id="429"),
        pytest.param(http_receiver, "http/protobuf", Answer(status=502), id="502"),
        pytest.param(http_receiver, "http/protobuf", Answer(reset=True), id="reset"),
        pytest.param(grpc_receiver, "grpc", Answer(status=14), id="UNAVAILABLE"),
        pytest.param(grpc_receiver, "grpc", Answer(status=8, retry_after=0.01), id="RESOURCE_EXHAUSTED for a while"),
    ],
)
def test_busy_is_tried_again(receiver: Receiver, protocol: str, answer: Answer) -> None:
    with receiver(answer, Answer()) as received, Sidecar(otlp(received.url, protocol=protocol)) as sidecar:
        observed_run(sidecar)
        until(lambda: exporter_stats(sidecar).pending == 0)
        stats = exporter_stats(sidecar)
        assert stats.exported == stats.seen
        assert stats.failures == 1
        assert names(received.spans) == SPANS
        assert received.refused == 1


@pytest.mark.parametrize(("receiver", "protocol"), BOTH)
def test_a_hanging_endpoint_costs_one_timeout_at_a_time(receiver: Receiver, protocol: str) -> None:
    slow = Answer(delay=60.0) if protocol != "grpc" else Answer(status=14, delay=60.0)
    with receiver(slow) as received:
        sidecar = Sidecar(otlp(received.url, protocol=protocol, timeout=0.2))
        observed_run(sidecar)
        until(lambda: exporter_stats(sidecar).failures >= 1)
        exported = exporter_stats(sidecar).exported  # a batch without an ended span needs no request
        assert exporter_stats(sidecar).pending == exporter_stats(sidecar).seen - exported > 0
        sidecar.close(timeout=0.2)
        assert exporter_stats(sidecar).dropped == {"shutdown": exporter_stats(sidecar).seen - exported}


def test_a_close_waits_no_longer_than_it_was_given() -> None:
    """The hanging request is abandoned, and its events are counted as dropped."""
    with http_receiver(Answer(delay=60.0)) as received:
        sidecar = Sidecar(otlp(received.url, timeout=60.0, interval=60.0))
        observed_run(sidecar)
        sidecar.flush(0.1)
        until(lambda: exporter_stats(sidecar).busy_seconds is not None)
        lost = sidecar.close(timeout=0.1)
        assert exporter_stats(sidecar).exported == 0
        assert lost == {"otlp": exporter_stats(sidecar).seen}


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(form: str) -> None:
    """No request is sent before the requested delay is over, although the batch is offered again."""
    wish = "3600" if form == "seconds" else "Fri, 31 Dec 2100 23:59:59 GMT"
    with http_receiver(Answer(status=503, retry_after=wish)) as received:
        sidecar = Sidecar(otlp(received.url))
        observed_run(sidecar)
        until(lambda: exporter_stats(sidecar).failures >= 3)
        assert received.refused == 1
        sidecar.close(timeout=0.1)


@pytest.mark.parametrize(("receiver", "protocol"), BOTH)
def test_a_partial_success_is_no_success(receiver: Receiver, protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    with receiver(Answer(rejected=3)) as received:
        exporter = otlp(received.url, protocol=protocol, interval=60.0)
        with Sidecar(exporter) as sidecar:
            observed_run(sidecar)
            sidecar.flush(30)
            stats = exporter_stats(sidecar)
    assert stats.dropped == {"rejected": 3}
    assert (exporter.spans_sent, exporter.spans_lost) == (1, 3)
    (line,) = said(caplog)
    assert "rejected" in line


REFUSALS = [
    pytest.param(http_receiver, "http/protobuf", Answer(status=400), "HTTP 400", id="400"),
    pytest.param(http_receiver, "http/protobuf", Answer(status=401), "OTEL_EXPORTER_OTLP_HEADERS", id="401"),
    pytest.param(http_receiver, "http/protobuf", Answer(status=404), "/v1/traces", id="404"),
    pytest.param(http_receiver, "http/protobuf", Answer(status=308), "new address", id="308"),
    pytest.param(http_receiver, "http/protobuf", Answer(status=413), "too large", id="413"),
    pytest.param(http_receiver, "http/protobuf", Answer(status=500), "HTTP 500", id="500"),
    pytest.param(
        http_receiver,
        "http/protobuf",
        Answer(body=b"<html>hello</html>", content_type="text/html"),
        "not OTLP",
        id="a web page",
    ),
    pytest.param(http_receiver, "http/protobuf", Answer(body=b"\xff\xff\xff"), "not OTLP", id="garbage"),
    pytest.param(grpc_receiver, "grpc", Answer(status=12), "UNIMPLEMENTED", id="UNIMPLEMENTED"),
    pytest.param(grpc_receiver, "grpc", Answer(status=16), "OTEL_EXPORTER_OTLP_HEADERS", id="UNAUTHENTICATED"),
    pytest.param(grpc_receiver, "grpc", Answer(status=8), "too large", id="RESOURCE_EXHAUSTED for good"),
    pytest.param(grpc_receiver, "grpc", Answer(body=b"\xff\xff\xff"), "not OTLP", id="grpc garbage"),
]


@pytest.mark.parametrize(("receiver", "protocol", "answer", "told"), REFUSALS)
def test_what_will_never_be_taken_is_lost_and_said_once(
    receiver: Receiver, protocol: str, answer: Answer, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver(answer) as received:
        with Sidecar(otlp(received.url, protocol=protocol, interval=60.0)) as sidecar:
            observed_run(sidecar, runs=2)
            sidecar.flush(30)
            stats = exporter_stats(sidecar)
    assert stats.dropped == {"refused": stats.seen}
    assert stats.failures == 0
    (line,) = said(caplog)
    assert told in line
    assert received.url in line


class TestNoOTLPServer:
    def check(self, address: str, protocol: str, caplog: pytest.LogCaptureFixture) -> None:
        """Every request is refused, and one log line names the remedy."""
        with Sidecar(otlp(address, protocol=protocol, interval=60.0)) as sidecar:
            observed_run(sidecar)
            sidecar.flush(30)
            assert exporter_stats(sidecar).dropped == {"refused": exporter_stats(sidecar).seen}
        (line,) = said(caplog)
        assert "host, port and protocol" in line

    @pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
    def test_of_another_protocol(self, protocol: str, caplog: pytest.LogCaptureFixture) -> None:
        with talker(b"SSH-2.0-OpenSSH_9\r\n") as where:
            self.check(f"http://{where}", protocol, caplog)

    def test_http_where_grpc_is_spoken(self, caplog: pytest.LogCaptureFixture) -> None:
        with grpc_receiver() as received:
            self.check(received.url, "http/protobuf", caplog)

    def test_grpc_where_http_is_spoken(self, caplog: pytest.LogCaptureFixture) -> None:
        with http_receiver() as received:
            self.check(received.url, "grpc", caplog)


class TestTLS:
    def test_https_with_the_right_authority(self, certificate: tuple[str, str]) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*certificate)
        with http_receiver(tls=server) as received, Sidecar(otlp(received.url, certificate=certificate[0])) as sidecar:
            observed_run(sidecar)
            assert sidecar.flush(30) == {}
            assert names(received.spans) == SPANS

    def test_the_authority_of_the_exporter_beats_that_of_all_other_requests(
        self, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import certifi

        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*certificate)
        with http_receiver(tls=server) as received, Sidecar(otlp(received.url, certificate=certificate[0])) as sidecar:
            observed_run(sidecar)
            assert sidecar.flush(30) == {}
            assert names(received.spans) == SPANS

    def test_grpc_with_the_right_authority(self, certificate: tuple[str, str]) -> None:
        pem, key = (_read(path) for path in certificate)
        credentials = grpc.ssl_server_credentials([(key, pem)])
        with grpc_receiver(credentials=credentials) as received:
            with Sidecar(otlp(received.url, protocol="grpc", certificate=certificate[0])) as sidecar:
                observed_run(sidecar)
                assert sidecar.flush(30) == {}
                assert names(received.spans) == SPANS

    @pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
    def test_an_authority_that_is_not_trusted(
        self, protocol: str, certificate: tuple[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*certificate)
        with http_receiver(tls=server) as received:
            with Sidecar(otlp(received.url, protocol=protocol, interval=60.0)) as sidecar:
                observed_run(sidecar)
                sidecar.flush(30)
                assert exporter_stats(sidecar).dropped == {"refused": exporter_stats(sidecar).seen}
        (line,) = said(caplog)
        assert "TLS failed" in line

    def test_a_server_may_ask_who_we_are(self, certificate: tuple[str, str]) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*certificate)
        server.load_verify_locations(certificate[0])
        server.verify_mode = ssl.CERT_REQUIRED
        pem, key = certificate
        options = {"certificate": pem, "client_certificate": pem, "client_key": key}
        with http_receiver(tls=server) as received, Sidecar(otlp(received.url, **options)) as sidecar:
            observed_run(sidecar)
            assert sidecar.flush(30) == {}
            assert names(received.spans) == SPANS


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
