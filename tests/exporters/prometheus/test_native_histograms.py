"""Native histograms: negotiation, the protobuf page, state, and the processes of a server."""

from __future__ import annotations

import random
import urllib.request
from gzip import decompress
from typing import Any

import msgspec
import pytest
from prometheus_client.utils import floatToGoString

from sidestream import ConfigurationError, InMemoryExporter, Sidecar, StreamEvent
from sidestream.metrics.definitions import BY_NAME
from sidestream.pipeline.registry import make_exporter
from sidestream_exporters import PrometheusExporter
from tests.support.metric_families import ACCEPT, families, native_counts
from tests.support.metric_samples import ended, page, run_of, started
from tests.support.provider_model import run_variety

DURATION = "gen_ai_invoke_agent_duration_seconds"


@pytest.fixture(scope="module")
def events() -> list[StreamEvent]:
    """Events of every type."""
    memory = InMemoryExporter(content="none")
    with Sidecar(memory, stall_seconds=0) as sidecar:
        run_variety(sidecar)
    return memory.events


def native(events: list[Any], **options: Any) -> PrometheusExporter:
    exporter = PrometheusExporter(None, histograms="native", **options)
    assert not exporter.export(events)
    return exporter


def runs(durations: list[float]) -> list[Any]:
    return [
        event
        for number, seconds in enumerate(durations)
        for event in run_of(started(f"r{number}"), ended(duration_seconds=seconds), run_id=f"r{number}")
    ]


def histogram(exporter: PrometheusExporter, name: str = DURATION) -> Any:
    [metric] = families(exporter.render(ACCEPT)[0])[name].metric
    return metric.histogram


def labels_of(pairs: Any) -> frozenset[tuple[str, str]]:
    return frozenset((pair.name, pair.value) for pair in pairs)


def test_the_page_has_the_values_of_the_text_page(events: list[StreamEvent]) -> None:
    exporter = native(events)
    found = families(exporter.render(ACCEPT)[0])
    rendered: dict[Any, float] = {}
    for name, family in found.items():
        assert family.help == BY_NAME[name].help
        for metric in family.metric:
            labels = labels_of(metric.label)
            if BY_NAME[name].kind == "histogram":
                one = metric.histogram
                rendered[f"{name}_count", labels] = one.sample_count
                rendered[f"{name}_sum", labels] = one.sample_sum
                for bucket in one.bucket:
                    rendered[f"{name}_bucket", labels | {("le", floatToGoString(bucket.upper_bound))}] = (
                        bucket.cumulative_count
                    )
                assert one.zero_count + sum(native_counts(one).values()) == one.sample_count, name
                assert one.schema == 3
            else:
                rendered[name, labels] = getattr(metric, BY_NAME[name].kind).value
    assert rendered == page(exporter.render()[0])


def test_exemplars_are_those_of_openmetrics(events: list[StreamEvent]) -> None:
    exporter = native(events)
    openmetrics = exporter.render("application/openmetrics-text;version=1.0.0")[0].decode()
    found = families(exporter.render(ACCEPT)[0])
    exemplars = [
        labels_of(each.exemplar.label)
        for family in found.values()
        for metric in family.metric
        for each in (metric.counter, *metric.histogram.bucket)
        if each.HasField("exemplar")
    ]
    assert len(exemplars) == openmetrics.count(" # {") > 20
    assert {name for labels in exemplars for name, _ in labels} == {"trace_id", "span_id", "run_id"}
    assert all(metric.counter.created_timestamp.seconds for metric in found["sidestream_runs_total"].metric)


def test_observations_are_in_their_exponential_buckets() -> None:
    found = histogram(native(runs([0.0, 1.0, 1.05, 1.05, 2.0, 300.0])))
    assert native_counts(found) == {0: 1, 1: 2, 8: 1, 66: 1}
    assert found.zero_count == 1
    assert [(span.offset, span.length) for span in found.positive_span] == [(0, 2), (6, 1), (57, 1)]


@pytest.mark.parametrize(
    ("accept", "is_protobuf"),
    [
        (ACCEPT, True),
        (ACCEPT.replace("delimited,", "delimited;q=0.6,").replace("q=0.8", "q=0.5"), True),
        (ACCEPT.replace("delimited,", "delimited;q=0.2,"), False),
        (ACCEPT.replace("encoding=delimited", "encoding=text"), False),
        ("application/vnd.google.protobuf", False),
        ("application/openmetrics-text;version=1.0.0,*/*;q=0.1", False),
        ("text/html;q=x, */*", False),
        ("", False),
    ],
)
def test_only_scrapes_that_ask_for_protobuf_get_it(accept: str, is_protobuf: bool) -> None:
    exporter = native(runs([1.0]))
    body, content_type = exporter.render(accept)
    assert content_type.startswith("application/vnd.google.protobuf; proto=") == is_protobuf
    if not is_protobuf:
        classic = PrometheusExporter(None)
        classic.export(runs([1.0]))
        assert content_type == classic.render(accept)[1]
        assert body.splitlines()[:3] == classic.render(accept)[0].splitlines()[:3]
    assert not PrometheusExporter(None).render(accept)[1].startswith("application/vnd")


def test_the_page_is_served_compressed_and_with_the_chosen_metrics() -> None:
    chosen = {"metrics": "gen_ai_*", "buckets": "coarse"}
    exporter = PrometheusExporter(0, histograms="native", **chosen)  # type: ignore[arg-type]
    exporter.export(runs([1.0, 2.0]))
    exporter.start()
    try:
        headers = {"Accept": ACCEPT, "Accept-Encoding": "gzip", "X-Prometheus-Scrape-Timeout-Seconds": "5"}
        with urllib.request.urlopen(urllib.request.Request(exporter.url or "", headers=headers), timeout=20) as answer:
            found = families(decompress(answer.read()))
            assert answer.headers["Content-Encoding"] == "gzip"
    finally:
        exporter.close()
    assert found.keys() == {DURATION}
    [metric] = found[DURATION].metric
    assert len(metric.histogram.bucket) == 5
    assert native_counts(metric.histogram) == {0: 1, 8: 1}


def test_the_state_of_collect_keeps_native_buckets() -> None:
    first, second, older = native(runs([0.0, 1.0, 300.0])), native([]), native([])
    state = msgspec.json.decode(msgspec.json.encode(first.dump_state()))
    second.load_state(state)
    for field in ("sample_count", "sample_sum", "zero_count", "positive_span", "positive_delta", "created_timestamp"):
        assert getattr(histogram(second), field) == getattr(histogram(first), field)
    classic = PrometheusExporter(None)
    classic.export(runs([0.0, 1.0, 300.0]))
    older.load_state(msgspec.json.decode(msgspec.json.encode(classic.dump_state())))
    moved = histogram(older)
    assert moved.sample_count == moved.zero_count + sum(native_counts(moved).values()) == 3
    classic.load_state(state)
    assert "_bucket" in classic.render()[0].decode()


def test_many_runs_of_wide_range_keep_the_page_small() -> None:
    draw = random.Random(15)
    found = histogram(native(runs([10 ** draw.uniform(-9, 9) for _ in range(600)])))
    assert len(native_counts(found)) <= 2 * 160
    assert found.schema < 3
    assert sum(native_counts(found).values()) == 600


def test_an_unknown_form_and_files_of_workers_are_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="choose classic, native"):
        make_exporter("prometheus:0?histograms=sparse")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match="sidestream collect"):
        make_exporter("prometheus:0?histograms=native")
