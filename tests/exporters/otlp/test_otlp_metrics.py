"""Metrics over OTLP: values equal to the Prometheus exporter's, cumulative or delta, with exemplars."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource

from sidestream import ConfigurationError, Sidecar
from sidestream.events import Usage
from sidestream.events.ids import span_id_of, trace_id_of
from sidestream.metrics.definitions import BY_NAME, Metric
from sidestream_exporters import OTLPExporter
from sidestream_exporters.otlp.metrics import Metrics
from sidestream_exporters.otlp.settings import Endpoint
from tests.support.loopback import until
from tests.support.otlp_agents import exporter_stats, observed_run
from tests.support.otlp_receiver import Answer, Received, attributes, http_receiver, nobody
from tests.support.run_events import answer, ask, end, event_log, start

DELTA, CUMULATIVE = 1, 2


def metrics_exporter(url: str, **options: Any) -> OTLPExporter:
    return OTLPExporter(url, **{"metrics": True, "metrics_interval": 3_600, "interval": 0.02, **options})


def last(received: Received, name: str) -> Any:
    return [metric for metric in received.metrics if metric.name == name][-1]


def test_the_numbers_of_a_run() -> None:
    usage = Usage(input_tokens=100, output_tokens=20)
    trace = {"trace_id": trace_id_of("run-1")}
    events = event_log(
        "run-1",
        start("run-1", **trace),
        ask(),
        answer(usage=usage, usage_source="provider", cost_usd=0.25),
        end(),
    )
    with http_receiver() as received:
        exporter = metrics_exporter(received.url)
        assert exporter.export(events) is None
        exporter.flush()
        exporter.close()
    cost = last(received, "sidestream.cost.usd")
    assert cost.sum.is_monotonic
    assert cost.sum.aggregation_temporality == CUMULATIVE
    assert cost.unit == "{USD}"
    (point,) = cost.sum.data_points
    assert point.as_double == 0.25
    assert attributes(point) == {"agent": "support", "provider": "openai", "model": "gpt-5-mini"}
    assert 0 < point.start_time_unix_nano < point.time_unix_nano
    (exemplar,) = point.exemplars
    assert exemplar.trace_id.hex() == trace_id_of("run-1")
    assert exemplar.span_id.hex() == span_id_of("run-1", 1)

    duration = last(received, "gen_ai.client.operation.duration")
    (point,) = duration.histogram.data_points
    assert (point.count, point.sum) == (1, 0.4)
    assert tuple(point.explicit_bounds) == BY_NAME["gen_ai_client_operation_duration_seconds"].buckets
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert attributes(point) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
    }
    (point,) = last(received, "sidestream.runs.in_progress").gauge.data_points
    assert point.as_double == 0


def test_they_are_sent_at_an_interval_without_further_events() -> None:
    with http_receiver() as received:
        with Sidecar(metrics_exporter(received.url, metrics_interval=0.05)) as sidecar:
            observed_run(sidecar)
            until(lambda: any(metric.name == "sidestream.runs" for metric in received.metrics))
            before = len(received.metrics)
            until(lambda: len(received.metrics) > before)


def test_the_sidecars_own_books_are_among_them() -> None:
    with http_receiver() as received:
        with Sidecar(metrics_exporter(received.url)) as sidecar:
            observed_run(sidecar)
            assert sidecar.flush(30) == {}
            assert exporter_stats(sidecar).exported > 0
        points = last(received, "sidestream.events").sum.data_points
    (exported,) = [point for point in points if attributes(point) == {"exporter": "otlp", "state": "exported"}]
    assert exported.as_double > 0


def test_what_was_counted_last_is_sent_on_close() -> None:
    with http_receiver() as received:
        with Sidecar(metrics_exporter(received.url)) as sidecar:
            observed_run(sidecar)
        points = last(received, "sidestream.runs").sum.data_points
    assert sum(point.as_double for point in points) == 1


def test_many_series_go_in_several_requests() -> None:
    with http_receiver() as received:
        exporter = metrics_exporter(received.url)
        for number in range(450):
            run_id = f"run-{number}"
            exporter.export(
                event_log(run_id, start(run_id), ask(model=f"model-{number % 90}"), agent=f"agent-{number % 9}")
            )
        exporter.flush()
        exporter.close()
        metrics = [request for request in received.requests if hasattr(request, "resource_metrics")]
    assert len(metrics) >= 2
    assert all(attributes(each.resource_metrics[0].resource)["service.instance.id"] for each in metrics)


def test_an_outage_costs_no_event_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with nobody() as port:
        exporter = metrics_exporter(f"http://127.0.0.1:{port}")
        exporter.export(event_log("run-1", start("run-1")))  # ends no span, so only metrics are sent
        for _ in range(3):
            exporter.flush()
        exporter.close()
    assert caplog.text.count("cannot take metrics") == 1


def test_an_endpoint_for_traces_alone_is_said_once_and_costs_no_span(caplog: pytest.LogCaptureFixture) -> None:
    with http_receiver() as traces, http_receiver(Answer(status=404)) as metrics:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{traces.url}/v1/traces")
            patch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{metrics.url}/v1/metrics")
            exporter = OTLPExporter(metrics=True, interval=0.02)
        with Sidecar(exporter) as sidecar:
            observed_run(sidecar)
            assert sidecar.flush(30) == {}
            assert exporter_stats(sidecar).exported == exporter_stats(sidecar).seen
    assert len(traces.spans) == 4
    assert caplog.text.count("refuses metrics") == 1


@pytest.mark.parametrize("value", ["0", "-1", "often", "nan"])
def test_an_interval_that_cannot_be(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", value)
    with pytest.raises(ConfigurationError, match="OTEL_METRIC_EXPORT_INTERVAL"):
        OTLPExporter(metrics=True)


def test_nothing_is_said_once_too_often(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sidestream")
    with http_receiver() as received, Sidecar(metrics_exporter(received.url)) as sidecar:
        observed_run(sidecar)
    assert caplog.text == ""


def in_prometheus(name: str, unit: str, kind: str) -> str:
    """Name of an OTLP metric as Prometheus translates it ("Prometheus and OpenMetrics Compatibility" of OpenTelemetry).

    A unit in braces is an annotation, and left out; other units are spelled out, unless the name ends with them.
    """
    suffixes = [] if unit.startswith("{") else [{"s": "seconds", "By": "bytes"}.get(unit, unit)]
    if kind == "gauge" and unit == "1":
        suffixes = ["ratio"]
    translated = name.replace(".", "_")
    for suffix in [*suffixes, *(["total"] if kind == "counter" else [])]:
        if suffix and not translated.endswith(f"_{suffix}"):
            translated += f"_{suffix}"
    return translated


@pytest.mark.parametrize("metric", BY_NAME.values(), ids=BY_NAME)
def test_prometheus_translates_each_metric_to_the_name_that_boards_and_rules_ask_for(metric: Metric) -> None:
    assert in_prometheus(metric.otlp, metric.unit, metric.kind) == metric.name


@pytest.mark.parametrize("preference", ["delta", "lowmemory", "DELTA"])
def test_each_delivery_tells_what_came_since_the_last_one_where_delta_is_preferred(
    preference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    with http_receiver() as received:
        exporter = metrics_exporter(received.url)
        for number in range(3):
            exporter.export(event_log(f"run-{number}", start(f"run-{number}"), ask(), answer(), end()))
            exporter.flush()
        exporter.close()
    runs = [metric.sum for metric in received.metrics if metric.name == "sidestream.runs"]
    assert {each.aggregation_temporality for each in runs} == {DELTA}
    completed = [point for each in runs for point in each.data_points if attributes(point)["outcome"] == "completed"]
    assert [point.as_double for point in completed[:3]] == [1, 1, 1]
    assert sum(point.as_double for point in completed) == 3
    ends, starts = [each.time_unix_nano for each in completed], [each.start_time_unix_nano for each in completed]
    assert starts[1:] == ends[:-1], "intervals follow each other without a gap"
    durations = [metric.histogram for metric in received.metrics if metric.name == "gen_ai.invoke_agent.duration"]
    assert {each.aggregation_temporality for each in durations} == {DELTA}
    assert sum(point.count for each in durations for point in each.data_points) == 3
    assert [point.as_double for point in last(received, "sidestream.runs.in_progress").gauge.data_points] == [0]


def test_delta_that_could_not_be_delivered_is_in_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    with http_receiver(Answer(status=503), Answer()) as received:
        endpoint = Endpoint(
            protocol="http/protobuf",
            url=f"{received.url}/v1/metrics",
            headers={},
            timeout=5,
            compression="none",
            certificate=None,
            client_certificate=None,
            client_key=None,
        )
        metrics = Metrics(endpoint, Resource({}), 3_600, lambda: None)
        for event in event_log("run-1", start("run-1"), end()):
            metrics.aggregator.add(event)
        metrics.send()
        assert received.metrics == []
        metrics.send()
        completed = [
            point.as_double
            for point in last(received, "sidestream.runs").sum.data_points
            if attributes(point)["outcome"] == "completed"
        ]
        metrics.close()
    assert completed == [1]


def test_temporality_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes")
    with pytest.raises(ConfigurationError, match="TEMPORALITY_PREFERENCE='sometimes'"):
        OTLPExporter(metrics=True)


@pytest.mark.parametrize(
    ("aggregation", "warnings"), [("base2_exponential_bucket_histogram", 1), ("explicit_bucket_histogram", 0), ("", 0)]
)
def test_exponential_histograms_are_replaced_with_a_warning(
    aggregation: str, warnings: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", aggregation)
    with http_receiver() as received, Sidecar(metrics_exporter(received.url)) as sidecar:
        observed_run(sidecar)
    assert caplog.text.count("histograms have explicit buckets") == warnings


def test_metrics_have_the_version_of_the_conventions() -> None:
    with http_receiver() as received:
        with Sidecar(metrics_exporter(received.url)) as sidecar:
            observed_run(sidecar)
        sent = [request for request in received.requests if hasattr(request, "resource_metrics")]
    [resource] = sent[-1].resource_metrics
    [scope] = resource.scope_metrics
    assert {resource.schema_url, scope.schema_url} == {"https://opentelemetry.io/schemas/1.41.0"}
