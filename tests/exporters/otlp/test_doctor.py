"""`sidestream doctor`: problems are reported with a remedy and without secrets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sidestream.cli.app import app
from sidestream_exporters import OTLPExporter
from tests.support.otlp_receiver import Answer, grpc_receiver, http_receiver, nobody, talker


def doctor(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["doctor", *arguments, "--json"])
    return done.exit_code, json.loads(done.stdout)


def endpoint(told: dict[str, Any]) -> dict[str, Any]:
    (finding,) = [each for each in told["checks"] if each["subject"] == "endpoint"]
    return finding


@contextmanager
def page(text: str) -> Iterator[int]:
    """Port of a web server that serves `page`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


class TestOTLP:
    def test_an_endpoint_that_works(self) -> None:
        with http_receiver() as received:
            code, told = doctor("--otlp", received.url)
        assert (code, told["ok"]) == (0, True)
        assert "takes traces" in endpoint(told)["message"]
        assert received.spans == []

    def test_over_grpc(self) -> None:
        with grpc_receiver() as received:
            code, told = doctor(f"otlp:{received.url}?protocol=grpc")
        assert (code, told["ok"]) == (0, True)

    def test_metrics_are_tried_too_where_they_are_wanted(self) -> None:
        with http_receiver(Answer(), Answer(status=404)) as received:
            code, told = doctor(f"otlp:{received.url}?metrics=true")
        assert code == 1
        assert "/v1/metrics" in told["checks"][-1]["message"]

    def test_nobody_there(self) -> None:
        with nobody() as port:
            code, told = doctor("--otlp", f"http://127.0.0.1:{port}")
        assert (code, told["ok"]) == (1, False)
        assert "cannot be reached" in endpoint(told)["message"]

    def test_something_else_there(self) -> None:
        with talker(b"SSH-2.0-OpenSSH_9\r\n") as where:
            code, told = doctor("--otlp", f"http://{where}")
        assert code == 1
        assert "host, port and protocol" in endpoint(told)["message"]

    def test_wrong_credentials(self) -> None:
        with http_receiver(Answer(status=401)) as received:
            code, told = doctor("--otlp", received.url)
        assert code == 1
        assert "OTEL_EXPORTER_OTLP_HEADERS" in endpoint(told)["message"]

    def test_it_tells_what_would_be_sent_but_no_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s3cret")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
        with http_receiver() as received:
            spec = f"otlp:{received.url}?headers=authorization=s3cret&content=metadata"
            _, told = doctor("--otlp", received.url, spec)
            plain = CliRunner().invoke(app, ["doctor", spec]).stdout
        found = {(each["subject"], each["message"]) for each in told["checks"]}
        assert ("service", "shop") in found
        assert ("sampler", "traceidratio") in found
        assert ("headers", "x-key (values not shown)") in found
        assert ("headers", "authorization (values not shown)") in found
        assert ("settings", "content=metadata") in found
        assert "s3cret" not in json.dumps(told) + plain

    def test_a_disabled_sdk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        code, told = doctor("otlp")
        assert code == 0
        assert "OTEL_SDK_DISABLED" in endpoint(told)["message"]

    def test_a_provider_of_the_applications_own(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider

        (*_, finding) = OTLPExporter(tracer_provider=TracerProvider()).check()
        assert finding.ok


def test_settings_that_cannot_work_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http")
    code, told = doctor("otlp", "bogus")
    assert code == 1
    assert [each["ok"] for each in told["checks"]] == [False, False]
    assert "http/protobuf" in told["checks"][0]["message"]
    assert "installed are" in told["checks"][1]["message"]


def test_a_setting_that_cannot_work_is_told_without_secrets() -> None:
    specs = ["otlp:http://u:s3cret@host/?timeout=never", "bogus?headers=authorization=s3cret", "otlp:?key=s3cret"]
    code, told = doctor(*specs)
    assert code == 1
    assert [each["exporter"] for each in told["checks"]] == ["otlp:http://host/", "bogus", "otlp:"]
    assert "s3cret" not in json.dumps(told) + CliRunner().invoke(app, ["doctor", *specs]).stdout


def test_without_arguments_it_looks_at_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDESTREAM_EXPORTERS", f"console,jsonl:{tmp_path}/runs/")
    code, told = doctor()
    assert code == 0
    assert [each["exporter"] for each in told["checks"]] == ["console", f"jsonl:{tmp_path}/runs/"]


class TestMetrics:
    def test_served(self) -> None:
        with page('# HELP sidestream_build_info x\nsidestream_build_info{version="1"} 1\n') as port:
            code, told = doctor("--prometheus", str(port))
        assert code == 0
        assert "serves 1 series" in told["checks"][0]["message"]

    def test_somebody_elses(self) -> None:
        with page("hello") as port:
            code, told = doctor("--prometheus", str(port))
        assert code == 1
        assert "another program" in told["checks"][0]["message"]

    def test_not_served(self) -> None:
        with nobody() as port:
            code, told = doctor("--prometheus", str(port))
        assert code == 1
        assert "does not answer" in told["checks"][0]["message"]


def test_for_people(tmp_path: Path) -> None:
    with nobody() as port:
        done = CliRunner().invoke(app, ["doctor", f"jsonl:{tmp_path}/", "--prometheus", str(port)])
    assert done.exit_code == 1
    first, second, third, fourth, private, *_ = done.stdout.splitlines()
    assert private == "private names of libraries"
    assert first.startswith("jsonl:")
    assert second.split()[:2] == ["ok", "settings"]
    assert third == f"port {port}"
    assert fourth.split()[:2] == ["WRONG", "metrics"]
