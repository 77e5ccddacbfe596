"""The table of metrics as a second signal: the same numbers as everywhere, cumulative, with exemplars."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sidestream import ConfigurationError, Sidecar
from sidestream.events import Usage
from sidestream.events.ids import span_id_of, trace_id_of
from sidestream.metrics.definitions import BY_NAME
from sidestream_exporters import OTLPExporter
from tests.support.loopback import until
from tests.support.otlp_agents import answered, ask, books, end, log, observed_run, start
from tests.support.otlp_receiver import Answer, Received, attributes, http_receiver, nobody

CUMULATIVE = 2


def metrics_exporter(url: str, **options: Any) -> OTLPExporter:
    return OTLPExporter(url, **{"metrics": True, "metrics_interval": 3_600, "interval": 0.02, **options})


def last(received: Received, name: str) -> Any:
    return [metric for metric in received.metrics if metric.name == name][-1]


def test_the_numbers_of_a_run() -> None:
    usage = Usage(input_tokens=100, output_tokens=20)
    trace = {"trace_id": trace_id_of("run-1")}
    events = log(
        "run-1",
        start("run-1", **trace),
        ask(),
        answered(usage=usage, usage_source="provider", cost_usd=0.25),
        end(),
    )
    with http_receiver() as received:
        exporter = metrics_exporter(received.url)
        assert exporter.export(events) is None
        exporter.flush()
        exporter.close()
    cost = last(received, "sidestream.cost")
    assert cost.sum.is_monotonic
    assert cost.sum.aggregation_temporality == CUMULATIVE
    assert cost.unit == "USD"
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
            assert books(sidecar).exported > 0
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
                log(run_id, start(run_id), ask(model=f"model-{number % 90}"), agent_name=f"agent-{number % 9}")
            )
        exporter.flush()
        exporter.close()
        metrics = [request for request in received.requests if hasattr(request, "resource_metrics")]
    assert len(metrics) >= 2
    assert all(attributes(each.resource_metrics[0].resource)["service.instance.id"] for each in metrics)


def test_an_outage_costs_no_event_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with nobody() as port:
        exporter = metrics_exporter(f"http://127.0.0.1:{port}")
        exporter.export(log("run-1", start("run-1")))  # ends no span, so nothing else is sent
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
            assert books(sidecar).exported == books(sidecar).seen
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
