"""Metrics of real runs, scraped by a real Prometheus and queried from it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf

import pytest
from pydantic_ai import Agent

from dashboards.queries import Scope
from dashboards.rules import NATIVE, NATIVE_RULES_FILE
from sidestream import InMemoryExporter, Sidecar, SidecarStats, StreamEvent
from sidestream.metrics.definitions import METRICS, Metric
from sidestream_exporters import PrometheusExporter
from sidestream_exporters.prometheus.http_server import MetricsServer
from tests.support.board_files import RULES
from tests.support.metric_samples import ended, run_of, started
from tests.support.metric_tally import Labels, Tally
from tests.support.prometheus_server import Prometheus, prometheus, wait_for
from tests.support.provider_model import Says, run_variety, stream, used

pytestmark = pytest.mark.scenario_18

FED_BY_RUNS = [metric for metric in METRICS if metric.source == "runs" and not {"tag", "score"} & set(metric.labels)]
"""Metrics that runs produce; the tests of the boards' traffic cover those of tags and scores."""

_DRAW = random.Random(15)
DURATIONS = [_DRAW.lognormvariate(0, 1) for _ in range(1_600)]
"""Durations in seconds of the runs of the agent `quick`."""
NATIVE_RULES = RULES.with_name(NATIVE_RULES_FILE)
QUICK = 'gen_ai_invoke_agent_duration_seconds{job="native",gen_ai_agent_name="quick"}'


@dataclass
class Scraped:
    """Prometheus that has scraped some runs, and the expected values."""

    server: Prometheus
    events: list[StreamEvent]
    tally: Tally
    stats: SidecarStats
    crowd: Sidecar
    """Sidecar whose labels are limited to three values."""
    native: NativeTarget
    """Target `native` with native histograms and the events of the target `variety`."""

    def vector(self, name: str, **labels: str) -> dict[Labels, float]:
        """Values of a metric by labels, without the labels that Prometheus adds."""
        wanted = ",".join(f'{label}="{value}"' for label, value in {"job": "variety", **labels}.items())
        added = ("__name__", "job", "instance")
        return {
            frozenset((k, v) for k, v in found["metric"].items() if k not in added): float(found["value"][1])
            # The last value, since a single scrape may fail on a busy machine.
            for found in self.server.query(f"last_over_time({name}{{{wanted}}}[1h])")
        }


class NativeTarget:
    """Endpoint of an exporter with native histograms, which has counted `events` and runs of the agent `quick`."""

    def __init__(self, events: Sequence[StreamEvent], durations: Sequence[float]) -> None:
        self._events = events
        self.exporter = self._new(durations)
        self.server = MetricsServer("127.0.0.1", 0, lambda accept: self.exporter.render(accept))

    def restart(self, durations: Sequence[float]) -> None:
        """Replace the exporter, as a restart of its program would."""
        self.exporter = self._new(durations)

    def _new(self, durations: Sequence[float]) -> PrometheusExporter:
        exporter = PrometheusExporter(None, histograms="native")
        exporter.export([*self._events, *_runs(durations)])
        return exporter


def _runs(durations: Sequence[float]) -> list[StreamEvent]:
    return [
        event
        for number, seconds in enumerate(durations)
        for event in run_of(started(f"q{number}"), ended(duration_seconds=seconds), run_id=f"q{number}", agent="quick")
    ]


@pytest.fixture(scope="module")
def scraped() -> Iterator[Scraped]:
    memory = InMemoryExporter(content="none")
    variety, crowd = PrometheusExporter(port=0), PrometheusExporter(port=0, label_values=3)
    with Sidecar(variety, memory, stall_seconds=0) as sidecar, Sidecar(crowd) as other:
        run_variety(sidecar)
        cached = Agent(Says([["cheap", used(1_000, 10, cache_read_tokens=800, cache_write_tokens=5)]]), name="cached")
        unpriced = Agent(Says([["a ", "b ", "c", used(5, 5)]], name="house-model", vendor="house"), name="unpriced")
        for agent in (cached, unpriced):
            asyncio.run(stream(sidecar.observe(agent)))
        assert sidecar.flush(30) == {}
        native = NativeTarget(memory.events, DURATIONS[:400])
        address = f"127.0.0.1:{native.server.port}"
        targets = {"variety": [_address(variety)], "crowd": [_address(crowd)], "native": [address]}
        arguments = ["--enable-feature=native-histograms"]
        with prometheus(targets=targets, rules=NATIVE_RULES, arguments=arguments) as server:
            server.until("sum(up)", 3)
            yield Scraped(server, memory.events, Tally(memory.events), sidecar.stats(), other, native)
        native.server.close()


def _address(exporter: PrometheusExporter) -> str:
    return wait_for(lambda: exporter.url, "the endpoint to open").split("/")[2]


@pytest.mark.parametrize("metric", FED_BY_RUNS, ids=lambda metric: metric.name)
def test_a_metric_is_in_prometheus_as_the_events_add_up(scraped: Scraped, metric: Metric) -> None:
    expected = scraped.tally.values[metric.name]
    assert expected, "the runs show nothing of it"
    sums = {labels: pytest.approx(total) for labels, total in scraped.tally.sums(metric.name).items()}
    if metric.kind == "histogram":
        assert scraped.vector(f"{metric.name}_count") == {labels: len(seen) for labels, seen in expected.items()}
        assert scraped.vector(f"{metric.name}_sum") == sums
        bounds = [*metric.buckets, inf]
        assert _buckets(scraped.vector(f"{metric.name}_bucket")) == {
            labels: {bound: sum(value <= bound for value in seen) for bound in bounds}
            for labels, seen in expected.items()
        }
    else:
        assert scraped.vector(metric.name) == sums


def _buckets(vector: dict[Labels, float]) -> dict[Labels, dict[float, float]]:
    buckets: dict[Labels, dict[float, float]] = {}
    for labels, value in vector.items():
        bound = dict(labels)["le"]
        buckets.setdefault(labels - {("le", bound)}, {})[float(bound)] = value
    return buckets


def test_the_statistics_of_the_sidecar_are_in_prometheus(scraped: Scraped) -> None:
    memory, mine = scraped.stats.exporters["memory"], frozenset({("exporter", "memory")})
    assert memory.exported == len(scraped.events)
    exported = {mine | {("state", "exported")}: memory.exported}
    assert scraped.vector("sidestream_events_total", exporter="memory") == exported
    assert scraped.vector("sidestream_queue_events", exporter="memory") == {mine: 0}
    for name in ("sidestream_exporter_failures_total", "sidestream_exporter_failing"):
        assert scraped.vector(name) == {mine: 0, frozenset({("exporter", "prometheus")}): 0}
    success = scraped.vector("sidestream_exporter_last_success_timestamp_seconds")
    assert success[mine] == pytest.approx(memory.last_success or 0, abs=1e-3)
    assert scraped.vector("sidestream_recording_errors_total") == {frozenset(): 0}
    assert list(scraped.vector("sidestream_build_info").values()) == [1]
    assert len(scraped.vector("sidestream_exporter_busy_seconds")) == 2


def test_the_exemplars_in_prometheus_lead_to_the_runs(scraped: Scraped) -> None:
    runs = {e.run_id: e.data.trace_id for e in scraped.events if e.event_type == "agent_start"}
    for name in (
        "gen_ai_client_operation_duration_seconds_bucket",
        "gen_ai_invoke_agent_duration_seconds_bucket",
        "gen_ai_execute_tool_duration_seconds_bucket",
        "sidestream_runs_total",
        "sidestream_cost_usd_total",
    ):
        query = f'{name}{{job="variety"}}'
        found = wait_for(partial(scraped.server.exemplars, query), f"exemplars of {name}")
        labels = [exemplar["labels"] for series in found for exemplar in series["exemplars"]]
        assert labels
        assert all(runs[one["run_id"]] == one["trace_id"] and len(one["span_id"]) == 16 for one in labels), name


def test_no_id_and_no_name_that_the_model_made_up_is_a_label(scraped: Scraped) -> None:
    ids = {e.run_id for e in scraped.events} | {e.data.trace_id for e in scraped.events if "trace_id" in e.data}
    texts = {value for label in scraped.server.get("labels") for value in scraped.server.get(f"label/{label}/values")}
    assert not texts & ids
    assert "no_such_tool" not in texts


def test_a_run_in_progress_shows_and_then_does_not_and_names_beyond_the_cap_are_other(scraped: Scraped) -> None:
    runs = [scraped.crowd.open_run(f"r{number}", f"agent-{number}", None) for number in range(10)]
    for run in runs:
        run.start(model="gpt-5")
    until = scraped.server.until
    until('sidestream_runs_in_progress{job="crowd",agent="agent-0",model="gpt-5"}', 1)
    until('sidestream_runs_in_progress{job="crowd",agent="other"}', 7)
    until('sidestream_label_overflow_total{job="crowd",label="agent"}', 7)
    for run in runs:
        run.end("completed")
        scraped.crowd.close_run(run)
    until('sidestream_runs_in_progress{job="crowd",agent="agent-0",model="gpt-5"}', 0)
    until('sidestream_runs_total{job="crowd",agent="other",outcome="completed"}', 7)
    until('count(sidestream_runs_total{job="crowd"})', 4)


@pytest.mark.parametrize("metric", [m for m in FED_BY_RUNS if m.kind == "histogram"], ids=lambda metric: metric.name)
def test_native_histograms_have_the_counts_and_sums_of_the_classic_ones(scraped: Scraped, metric: Metric) -> None:
    others = f'{metric.name}{{job="native",agent!="quick",gen_ai_agent_name!="quick"}}'
    for part in ("count", "sum"):
        found = wait_for(partial(scraped.server.query, f"histogram_{part}({others})"), "a scrape")
        native = {
            frozenset((k, v) for k, v in series["metric"].items() if k not in ("job", "instance")): float(
                series["value"][1]
            )
            for series in found
        }
        assert native == pytest.approx(scraped.vector(f"{metric.name}_{part}"))
    assert not scraped.server.query(f'last_over_time({metric.name}_bucket{{job="native"}}[1h])')


def test_exemplars_of_native_histograms_lead_to_the_runs(scraped: Scraped) -> None:
    runs = {e.run_id: e.data.trace_id for e in scraped.events if e.event_type == "agent_start"}
    query = 'gen_ai_client_operation_duration_seconds{job="native"}'
    found = wait_for(partial(scraped.server.exemplars, query), "exemplars of native histograms")
    labels = [exemplar["labels"] for series in found for exemplar in series["exemplars"]]
    assert labels
    assert all(runs[one["run_id"]] == one["trace_id"] for one in labels)


def test_quantiles_of_native_histograms_are_right_within_the_error_of_the_schema_and_across_a_restart(
    scraped: Scraped,
) -> None:
    """All rates start at the first scrape, which has the first 400 runs."""
    server, native = scraped.server, scraped.native
    server.until(f"histogram_count({QUICK})", 400)
    native.exporter.export(_runs(DURATIONS[400:1000]))
    server.until(f"histogram_count({QUICK})", 1_000)
    _check_rate(server, DURATIONS[400:1000])
    native.restart(DURATIONS[1000:])
    server.until(f"histogram_count({QUICK})", 600)
    _check_rate(server, DURATIONS[400:])


def test_rules_for_native_histograms_record_the_series_that_the_boards_query(scraped: Scraped) -> None:
    assert {record.name for record in NATIVE} == {
        f"{metric.name}_{part}" for metric in METRICS if metric.kind == "histogram" for part in ("count", "sum")
    }
    of_variety = '{job="native",agent!="quick",gen_ai_agent_name!="quick"}'
    for name in ("gen_ai_invoke_agent_duration_seconds_count", "gen_ai_client_token_usage_sum"):
        scraped.server.until(f"sum({name}{of_variety})", sum(scraped.vector(name).values()))


_of_boards = Scope()["gen_ai_invoke_agent_duration_seconds"]


def _check_rate(server: Prometheus, durations: Sequence[float]) -> None:
    rate = f"sum(rate({QUICK}[1h]))"
    for q in (0.5, 0.95):
        exact = sorted(durations)[round(q * len(durations))]
        assert server.value(f"histogram_quantile({q}, {rate})") == pytest.approx(exact, rel=0.05)
        [board] = server.query(_of_boards.quantile(q, window="1h", job="=native", gen_ai_agent_name="=quick"))
        assert float(board["value"][1]) == pytest.approx(exact, rel=0.05)
    mean = server.value(f"histogram_sum({rate}) / histogram_count({rate})")
    assert mean == pytest.approx(sum(durations) / len(durations))
