"""Readers of aggregated metrics, and events to aggregate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from sidestream.events import AgentStart, Payload, StreamEvent, Usage
from sidestream.metrics.aggregator import MetricsAggregator
from sidestream.metrics.definitions import BY_NAME
from sidestream.metrics.store import Point
from tests.support.run_events import answer, ask, end, event_log, start


def measured(events: Iterable[StreamEvent], aggregator: MetricsAggregator | None = None) -> MetricsAggregator:
    """Aggregator that has processed `events`."""
    aggregator = aggregator or MetricsAggregator()
    for event in events:
        aggregator.add(event)
    return aggregator


def points(aggregator: MetricsAggregator, name: str, **labels: str) -> list[Point]:
    """Time series of a metric with these labels."""
    names = BY_NAME[name].labels
    wanted = [(names.index(label), value) for label, value in labels.items()]
    return [p for p in aggregator.snapshot()[name] if all(p.labels[place] == value for place, value in wanted)]


def value(aggregator: MetricsAggregator, name: str, **labels: str) -> float | None:
    """Sum of the time series with these labels (of a histogram: of its observations); None without one."""
    found = points(aggregator, name, **labels)
    return sum(point.value for point in found) if found else None


def count(aggregator: MetricsAggregator, name: str, **labels: str) -> int:
    """Number of observations of a histogram."""
    return sum(sum(point.counts) for point in points(aggregator, name, **labels))


def page(text: bytes | str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples in Prometheus' text format, by name and labels. Labels without a value are omitted."""
    text = text.decode() if isinstance(text, bytes) else text
    return {
        (sample.name, frozenset((k, v) for k, v in sample.labels.items() if v)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def on_page(text: bytes | str, name: str, **labels: str) -> float | None:
    """Sum of the samples of `name` with these labels; None if there are none."""
    found = [v for (n, have), v in page(text).items() if n == name and set(labels.items()) <= have]
    return sum(found) if found else None


def run_of(*payloads: Payload, run_id: str = "r1", agent: str | None = "a", offsets: Sequence[float] = ()) -> list[Any]:
    """Events of one run."""
    times = [*offsets, *(float(seq) for seq in range(len(offsets), len(payloads)))]
    return event_log(run_id, *zip(times, payloads, strict=True), agent=agent)


def started(run_id: str = "r1", **facts: Any) -> AgentStart:
    return start(run_id, **{"model": "gpt-5", "trace_id": "0af7651916cd43dd8448eb211c80319c", **facts})


asked = partial(ask, model="gpt-5")
answered = partial(answer, model="gpt-5", duration_seconds=0.5)
ended = partial(end, duration_seconds=1.5, total_iterations=1)


def usage(input_tokens: int | None = None, output_tokens: int | None = None, **more: Any) -> Usage:
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, **more)


def by_labels(found: Iterable[Point]) -> Mapping[tuple[str, ...], float]:
    return {point.labels: point.value for point in found}
