"""OTLP settings: standard environment variables, arguments that override them, and invalid values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidestream import ConfigurationError
from sidestream.pipeline.registry import make_exporter
from sidestream_exporters import OTLPExporter
from sidestream_exporters.otlp.settings import Endpoint, ExporterArguments, endpoint_of
from tests.support.otlp_receiver import attributes, http_receiver

BASE = "OTEL_EXPORTER_OTLP_"


def traces(**given: Any) -> Endpoint:
    return endpoint_of("traces", ExporterArguments(**given))


class TestTheAddress:
    @pytest.mark.parametrize(
        ("given", "url"),
        [
            ({}, "http://localhost:4318/v1/traces"),
            ({"endpoint": "http://c:4318"}, "http://c:4318/v1/traces"),
            ({"endpoint": "http://c:4318/"}, "http://c:4318/v1/traces"),
            ({"endpoint": "http://c:4318/v1/traces"}, "http://c:4318/v1/traces"),
            ({"endpoint": "https://c/api/otel?team=a"}, "https://c/api/otel/v1/traces?team=a"),
            ({"endpoint": "http://[::1]:4318"}, "http://[::1]:4318/v1/traces"),
            ({"protocol": "grpc"}, "http://localhost:4317"),
            ({"protocol": "grpc", "endpoint": "https://c"}, "https://c:443"),
            ({"protocol": "grpc", "endpoint": "http://c:1/"}, "http://c:1"),
            ({"protocol": "grpc", "endpoint": "c:1"}, "https://c:1"),
            ({"protocol": "grpc", "endpoint": "http://[::1]:4317"}, "http://[::1]:4317"),
        ],
    )
    def test_given(self, given: dict[str, Any], url: str) -> None:
        assert traces(**given).url == url

    def test_the_general_variable_is_a_base_and_the_signals_own_is_taken_as_it_is(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(BASE + "ENDPOINT", "http://c:1/base")
        assert traces().url == "http://c:1/base/v1/traces"
        assert endpoint_of("metrics", ExporterArguments()).url == "http://c:1/base/v1/metrics"
        monkeypatch.setenv(BASE + "TRACES_ENDPOINT", "http://t:2/here")
        assert traces().url == "http://t:2/here"
        assert traces(endpoint="http://a:3").url == "http://a:3/v1/traces"

    def test_insecure_is_for_an_address_without_a_scheme(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(BASE + "INSECURE", "true")
        monkeypatch.setenv(BASE + "PROTOCOL", "grpc")
        monkeypatch.setenv(BASE + "ENDPOINT", "c:4317")
        assert traces().url == "http://c:4317"

    def test_port_4317_speaks_grpc_unless_told_otherwise(self) -> None:
        assert traces(endpoint="http://c:4317").protocol == "grpc"
        assert traces(endpoint="http://c:4318").protocol == "http/protobuf"
        assert traces(endpoint="http://c:4317", protocol="http/protobuf").protocol == "http/protobuf"

    def test_an_empty_variable_is_one_that_is_not_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("ENDPOINT", "PROTOCOL", "HEADERS", "TIMEOUT", "COMPRESSION", "CERTIFICATE"):
            monkeypatch.setenv(BASE + name, " ")
        assert traces() == endpoint_of("traces", ExporterArguments(endpoint="http://localhost:4318"))


class TestTheRest:
    def test_argument_beats_signal_beats_general_beats_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert traces().timeout == 10
        monkeypatch.setenv(BASE + "TIMEOUT", "7")
        assert traces().timeout == 7
        monkeypatch.setenv(BASE + "TRACES_TIMEOUT", "5.5")
        assert traces().timeout == 5.5
        assert traces(timeout=3).timeout == 3

    def test_headers_are_a_list_or_a_mapping(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(BASE + "HEADERS", "Authorization=Basic%20abc%3D, x-team = a ,")
        assert traces().headers == {"authorization": "Basic abc=", "x-team": "a"}
        assert traces(headers={"X-Key": "k=1"}).headers == {"x-key": "k=1"}

    def test_their_values_do_not_show(self) -> None:
        assert "s3cret" not in repr(traces(headers="authorization=s3cret"))

    def test_all_of_it_arrives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from tests.support.run_events import end, event_log, start

        with http_receiver() as received:
            monkeypatch.setenv(BASE + "ENDPOINT", received.url)
            monkeypatch.setenv(BASE + "HEADERS", "x-team=blue")
            monkeypatch.setenv(BASE + "COMPRESSION", "gzip")
            monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
            monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
            exporter = OTLPExporter()
            exporter.export(event_log("run-1", start("run-1"), end()))
            exporter.close()
        (headers,) = received.headers
        assert headers["x-team"] == "blue"
        assert headers["content-encoding"] == "gzip"
        assert headers["user-agent"].startswith("sidestream/")
        (part,) = received.requests[0].resource_spans
        resource = attributes(part.resource)
        assert resource["service.name"] == "shop"
        assert resource["deployment.environment.name"] == "test"
        assert resource["telemetry.sdk.language"] == "python"
        assert resource["service.instance.id"]
        assert part.scope_spans[0].scope.name == "sidestream"

    def test_a_netrc_does_not_replace_the_credentials(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from tests.support.run_events import end, event_log, start

        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login me password wrong\n")
        monkeypatch.setenv("NETRC", str(netrc))
        with http_receiver() as received:
            exporter = OTLPExporter(received.url, headers={"authorization": "Bearer right"})
            exporter.export(event_log("run-1", start("run-1"), end()))
            exporter.close()
        assert received.headers[0]["authorization"] == "Bearer right"

    def test_by_name(self) -> None:
        exporter = make_exporter("otlp:http://c:4317?timeout=2&compression=gzip&content=metadata&keep_slower=3")
        assert isinstance(exporter, OTLPExporter)
        assert exporter.endpoint.protocol == "grpc"
        assert exporter.endpoint.timeout == 2
        assert exporter.endpoint.compression == "gzip"
        assert exporter.content.mode == "metadata"


class TestWhatCannotWork:
    @pytest.mark.parametrize(
        ("variable", "value", "told"),
        [
            ("PROTOCOL", "http", "http/protobuf or grpc"),
            ("COMPRESSION", "brotli", "none or gzip"),
            ("TIMEOUT", "soon", "seconds"),
            ("TIMEOUT", "0", "seconds"),
            ("TIMEOUT", "nan", "seconds"),
            ("TIMEOUT", "-1", "seconds"),
            ("ENDPOINT", "localhost:4318", "write http://localhost:4318"),
            ("ENDPOINT", "ftp://c", "http://HOST:PORT"),
            ("ENDPOINT", "http://", "http://HOST:PORT"),
            ("ENDPOINT", "http://c:port", "http://HOST:PORT"),
            ("ENDPOINT", "http://c:99999", "http://HOST:PORT"),
            ("ENDPOINT", "http://me:s3cret@c:4318", "HEADERS"),
            ("HEADERS", "s3cret", "name=value"),
            ("HEADERS", "a b=s3cret", "header name"),
            ("HEADERS", "key=s3cret%0d%0aevil: yes", "printable"),
            ("CERTIFICATE", "/no/such/file.pem", "cannot be read"),
            ("CLIENT_KEY", __file__, "client_certificate"),
            ("CERTIFICATE", __file__, "PEM"),
        ],
    )
    def test_in_the_environment(self, variable: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error names the variable and the valid values, and shows no secret."""
        for name in (f"{BASE}TRACES_{variable}", f"{BASE}{variable}"):
            monkeypatch.setenv(name, value)
            with pytest.raises(ConfigurationError, match=name) as raised:
                OTLPExporter()
            assert told in str(raised.value)
            assert "s3cret" not in str(raised.value)
            monkeypatch.delenv(name)

    @pytest.mark.parametrize(
        "options",
        [
            {"protocol": "http"},
            {"endpoint": "nonsense"},
            {"endpoint": "http://c:4317/v1/traces", "protocol": "grpc"},
            {"endpoint": 4317},
            {"headers": {"a": 1}},
            {"timeout": True},
            {"compression": "zip"},
            {"content": "some"},
            {"interval": -1},
            {"keep_slower": float("nan")},
            {"instrumented": "maybe"},
            {"record": "/no/such/folder/record.jsonl"},
        ],
    )
    def test_as_an_argument(self, options: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=r"otlp|content"):
            OTLPExporter(**options)

    def test_a_policy_that_the_conventions_do_not_know(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "EVERYTHING")
        with pytest.raises(ConfigurationError, match="SPAN_ONLY"):
            OTLPExporter()

    def test_a_sampler_that_does_not_exist(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "sometimes")
        with pytest.raises(ConfigurationError, match="always_on"):
            OTLPExporter()
