"""Faulty servers, proxies and addresses: attempts are bounded, abandoned batches are freed, no secret is logged."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Any

import pytest

from sidestream import ConfigurationError
from sidestream.cli.app import app
from sidestream.errors import ExporterUnavailable
from sidestream.events import AgentStart, LLMEnd, LLMStart, Payload, ToolEnd, ToolStart
from sidestream_exporters import OTLPExporter
from sidestream_exporters.otlp import compat
from sidestream_exporters.otlp.connecting import BoundedConnecting
from sidestream_exporters.otlp.settings import ExporterArguments, endpoint_of
from tests.support.otlp_receiver import Answer, attributes, grpc_receiver, http_receiver, nobody
from tests.support.raw_server import raw_server
from tests.support.run_events import end, event_log, start

pytestmark = pytest.mark.scenario_26

SECRET = "s3cr3tZZ"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"


def one_run() -> list[Any]:
    return event_log("run-1", start("run-1"), end())


class TestAServerThatDrips:
    @pytest.mark.parametrize(
        ("pieces", "forever"),
        [
            pytest.param([HEAD + b"Content-Length: 60000\r\n\r\n"], b"\0", id="body"),
            pytest.param([HEAD + b"Transfer-Encoding: chunked\r\n\r\n"], b"1\r\n\0\r\n", id="chunks"),
            pytest.param([b"HTTP/1.1 200 OK\r\n"], b"X-More: 1\r\n", id="headers"),
            pytest.param([b""], b"HTTP/1.1 100 Continue\r\n\r\n", id="100 Continue"),
        ],
    )
    def test_is_left_when_the_timeout_of_the_request_is_over(self, pieces: list[bytes], forever: bytes) -> None:
        """Each single read succeeds long before the timeout."""
        with raw_server(*pieces, forever=forever) as (port, _):
            exporter = OTLPExporter(f"http://127.0.0.1:{port}", timeout=0.3)
            with pytest.raises(ExporterUnavailable, match="timed out"):
                exporter.export(one_run())
            exporter.close()

    def test_in_the_middle_of_a_tls_handshake(self) -> None:
        with raw_server(b"\x16\x03\x03\x40\x00", forever=b"\0") as (port, _):
            exporter = OTLPExporter(f"https://127.0.0.1:{port}", timeout=0.3)
            with pytest.raises(ExporterUnavailable, match="timed out"):
                exporter.export(one_run())
            exporter.close()


class TestANameServerThatHangs:
    def test_is_left_when_the_timeout_is_over_and_asked_by_one_thread_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look_up, answers, asked = socket.getaddrinfo, threading.Event(), []

        def hang(host: str, *rest: Any) -> Any:
            asked.append(host)
            answers.wait()
            return look_up("127.0.0.1", *rest)

        with http_receiver() as received:
            port = received.url.rpartition(":")[2].partition("/")[0]
            monkeypatch.setattr(socket, "getaddrinfo", hang)
            exporter = OTLPExporter(f"http://collector.example:{port}", timeout=0.1)
            for _ in range(3):
                with pytest.raises(ExporterUnavailable, match="timed out"):
                    exporter.export(one_run())
            assert asked == ["collector.example"]
            answers.set()
            exporter.close()

    def test_is_waited_for_where_it_answers_in_the_time_of_a_later_attempt(self) -> None:
        connecting, answers = BoundedConnecting(), threading.Event()
        ours, theirs = socket.socketpair()

        def connect() -> socket.socket:
            answers.wait()
            return ours

        with ours, theirs:
            with pytest.raises(TimeoutError):
                connecting.open("host", connect, 0.01)
            later = threading.Timer(0.1, answers.set)
            later.start()
            assert connecting.open("host", lambda: ours, 60) is ours
            later.join()

    def test_has_its_late_connection_closed_where_nobody_waits(self) -> None:
        connecting, answers = BoundedConnecting(), threading.Event()
        ours, theirs = socket.socketpair()

        def connect() -> socket.socket:
            answers.wait()
            return ours

        with theirs:
            with pytest.raises(TimeoutError):
                connecting.open("host", connect, 0.01)
            answers.set()
            assert theirs.recv(1) == b""

    def test_a_name_that_is_unknown_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        exporter = OTLPExporter("http://collector.example:4318", timeout=60)
        with pytest.raises(ExporterUnavailable, match="Name or service not known"):
            exporter.export(one_run())
        exporter.close()


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    with raw_server(HEAD + b"Content-Length: 9999999999\r\n\r\n" + b"\0" * 200_000) as (port, _):
        exporter = OTLPExporter(f"http://127.0.0.1:{port}", timeout=5)
        assert exporter.export(one_run()) == {"refused": 2}  # the truncated body is not an OTLP response
        exporter.close()


def test_credentials_in_the_address_of_a_proxy_are_sent_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(HEAD + b"Connection: close\r\nContent-Length: 0\r\n\r\n") as (port, asked):
        monkeypatch.setenv("http_proxy", f"http://user:password@127.0.0.1:{port}")
        exporter = OTLPExporter("http://collector.example:4318")
        assert exporter.export(one_run()) is None
        exporter.close()
    (request,) = asked
    assert request.startswith(b"POST http://collector.example:4318/v1/traces ")
    assert b"proxy-authorization: basic dxnlcjpwyxnzd29yza==" in request.lower()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_credentials_is_told(
    scheme: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with raw_server(b"HTTP/1.1 407 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n") as (port, _):
        monkeypatch.setenv(f"{scheme}_proxy", f"http://user:{SECRET}@127.0.0.1:{port}")
        exporter = OTLPExporter(f"{scheme}://collector.example:4318")
        assert exporter.export(one_run()) == {"refused": 2}
        exporter.close()
    assert "the proxy wants credentials" in caplog.text
    assert SECRET not in caplog.text


def test_a_proxy_that_is_busy_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n") as (port, _):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        exporter = OTLPExporter("https://collector.example:4318")
        with pytest.raises(ExporterUnavailable, match="HTTP 503 of the proxy"):
            exporter.export(one_run())
        exporter.close()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_only_the_span_that_is_too_large_by_itself_is_lost(protocol: str) -> None:
    """Refused requests are halved until the oversized span is alone."""
    too_large = Answer(status=413) if protocol != "grpc" else Answer(status=8)
    turns: list[Payload] = []
    for _ in range(7):
        turns += [ToolStart(tool_name="look"), ToolEnd(tool_name="look", outcome="ok")]
    receiver = http_receiver if protocol != "grpc" else grpc_receiver
    with receiver(too_large, too_large, too_large, too_large, Answer()) as received:
        exporter = OTLPExporter(received.url, protocol=protocol)
        assert exporter.export(event_log("run-1", start("run-1"), *turns, end())) == {"refused": 1}
        exporter.close()
    assert len(received.spans) == 7
    assert received.refused == 4
    assert (exporter.spans_sent, exporter.spans_lost) == (7, 1)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_span_that_is_too_large_by_itself_is_sent_without_its_long_texts(protocol: str) -> None:
    """The spans of run and request both hold the prompt: both arrive, each with the count of removed text."""
    too_large = Answer(status=413) if protocol != "grpc" else Answer(status=8)
    receiver = http_receiver if protocol != "grpc" else grpc_receiver
    prompt = "long " * 1_000
    payloads: list[Payload] = [
        LLMStart(request=1, model="m", streaming=False),
        LLMEnd(request=1, model="m", streaming=False, outcome="ok", usage_source="none", duration_seconds=0.1),
    ]
    # Both, then the request's alone with its prompt, and without it; then the run's.
    with receiver(too_large, too_large, Answer(), too_large, Answer()) as received:
        exporter = OTLPExporter(received.url, protocol=protocol, content="full")
        events = event_log("run-1", AgentStart(root_run_id="run-1", prompt=prompt), *payloads, end())
        assert exporter.export(events) is None
        exporter.close()
    assert (exporter.spans_sent, exporter.spans_lost, exporter.spans_shortened) == (2, 0, 2)
    assert sorted(span.name.split()[0] for span in received.spans) == ["chat", "invoke_agent"]
    for span in received.spans:
        told = attributes(span)
        assert told["sidestream.content_left_out"] > len(prompt)
        assert "gen_ai.input.messages" not in told
        assert told["gen_ai.operation.name"] == span.name.split()[0]


class TestWhatASendHeld:
    def test_is_freed_where_it_raises_what_nobody_foresaw(self, monkeypatch: pytest.MonkeyPatch) -> None:
        exporter = OTLPExporter("http://127.0.0.1:9")

        def fail(data: Any) -> None:
            raise RuntimeError("unforeseen")

        exporter._send_queue._sender = type("Broken", (), {"send": staticmethod(fail), "close": lambda self: None})()
        with pytest.raises(RuntimeError):
            exporter.export(one_run())
        assert not exporter._send_queue._waiting

    def test_is_freed_where_another_batch_comes(self) -> None:
        """The pipeline offers a batch repeatedly until it gives up, and counts the events as dropped."""
        with nobody() as port:
            exporter = OTLPExporter(f"http://127.0.0.1:{port}")
            for number in range(5):
                with pytest.raises(ExporterUnavailable):
                    exporter.export(event_log(f"run-{number}", start(f"run-{number}"), end()))
            assert len(exporter._send_queue._waiting) == 1
            exporter.close()


class TestSecrets:
    @pytest.mark.parametrize(
        "address", [f"http://127.0.0.1:9/v1/traces?api-key={SECRET}", f"http://127.0.0.1:9/{SECRET}/x"]
    )
    def test_of_the_address_are_in_no_diagnostic(
        self, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", address)
        caplog.set_level(logging.DEBUG)
        exporter = OTLPExporter()
        with pytest.raises(ExporterUnavailable) as raised:
            exporter.export(one_run())
        assert "127.0.0.1:9" in str(raised.value)
        ours = [record.getMessage() for record in caplog.records if record.name == "sidestream"]
        assert SECRET not in str(raised.value) + repr(exporter.endpoint) + "".join(ours)
        exporter.close()

    def test_of_the_address_are_not_in_what_doctor_tells(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from typer.testing import CliRunner

        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:9/v1/traces?api-key={SECRET}")
        told = CliRunner().invoke(app, ["doctor", "otlp"])
        assert "127.0.0.1:9" in told.stdout
        assert SECRET not in told.stdout

    @pytest.mark.parametrize(
        "given",
        [
            {"endpoint": f"http:/user:{SECRET}@h"},
            {"endpoint": f"ftp://h/{SECRET}"},
            {"endpoint": f"http://user:{SECRET}@h"},
            {"endpoint": f"http://h:{SECRET}"},
            {"endpoint": f"h:4318/{SECRET}"},
            {"endpoint": f"http://h:4317/{SECRET}", "protocol": "grpc"},
            {"headers": f"{SECRET} x=1"},
            {"headers": SECRET},
        ],
    )
    def test_of_a_mistyped_setting_are_not_in_the_error(self, given: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError) as raised:
            endpoint_of("traces", ExporterArguments(**given))
        assert SECRET not in str(raised.value)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_headers_of_the_environment_that_cannot_be_read_are_not_logged_by_the_library(
    protocol: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", SECRET)
    receiver = grpc_receiver if protocol == "grpc" else http_receiver
    with receiver() as received:
        exporter = OTLPExporter(received.url, protocol=protocol, headers={})
        exporter.export(one_run())
        exporter.close()
    assert SECRET not in caplog.text


def test_a_key_in_place_of_a_headers_name_is_not_told() -> None:
    exporter = OTLPExporter(headers={SECRET: "authorization", "x-scope-orgid": "1"})
    (told,) = (result.message for result in exporter.check() if result.subject == "headers")
    exporter.close()
    assert told == "x-scope-orgid, … (values not shown)"
    with pytest.raises(ConfigurationError) as raised:
        OTLPExporter(headers={SECRET: "no\nheader"})
    assert SECRET.lower() not in str(raised.value)


@pytest.mark.parametrize("given", [{"x-team": "blue"}, {}])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_headers_that_are_given_are_not_joined_by_those_of_the_environment(
    protocol: str, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of the environment for one back end is not sent to another."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-key={SECRET}")
    receiver = grpc_receiver if protocol == "grpc" else http_receiver
    with receiver() as received:
        exporter = OTLPExporter(received.url, protocol=protocol, headers=given)
        exporter.export(one_run())
        exporter.close()
    assert received.headers[0].get("x-team") == given.get("x-team")
    assert "x-key" not in received.headers[0]


def test_a_protocol_of_the_specification_that_is_not_implemented_is_said_and_falls_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A variable may be meant for other programs of a fleet; an argument is meant for this exporter."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    assert OTLPExporter().endpoint.protocol == "http/protobuf"
    assert "OTEL_EXPORTER_OTLP_PROTOCOL" in caplog.text
    with pytest.raises(ConfigurationError):
        OTLPExporter(protocol="http/json")


def test_every_private_name_of_a_library_is_there() -> None:
    assert compat.probe() == []


def test_a_stub_that_is_gone_is_said(caplog: pytest.LogCaptureFixture) -> None:
    compat.replace_stub(object(), {})
    assert "hides rejected spans" in caplog.text
