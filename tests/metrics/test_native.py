"""Native buckets: indexes, merging of buckets, and gaps between chunks."""

from __future__ import annotations

from collections import Counter
from math import ceil, log2

from hypothesis import given
from hypothesis import strategies as st

from sidestream.events import LLMChunk
from sidestream.metrics.aggregator import MetricsAggregator
from sidestream.metrics.native import MAX_BUCKETS, ZERO_THRESHOLD, NativeBuckets
from tests.support.metric_samples import answered, asked, measured, points, run_of, started

GAPS = "gen_ai_client_operation_time_per_output_chunk_seconds"


@given(st.floats(ZERO_THRESHOLD, exclude_min=True, allow_infinity=False))
def test_a_value_is_between_the_bounds_of_its_bucket(value: float) -> None:
    native = NativeBuckets()
    native.add(value)
    [index] = native.counts
    assert index - 1 - 1e-9 < 8 * log2(value) < index + 1e-9  # log2 rounds


@given(st.lists(st.floats(0, allow_infinity=False), max_size=400))
def test_buckets_beyond_the_maximum_merge_with_their_neighbours(values: list[float]) -> None:
    native, expected = NativeBuckets(), Counter[int]()
    for value in values:
        native.add(value)
        single = NativeBuckets()
        single.add(value)
        expected.update(single.counts)
    assert len(native.counts) <= MAX_BUCKETS
    assert native.zero == len(values) - expected.total()
    ratio = 2 ** (3 - native.schema)
    merged = Counter[int]()
    for index, count in expected.items():
        merged[ceil(index / ratio)] += count
    assert native.counts == merged


@given(st.integers(-127, 300))
def test_a_bucket_includes_its_upper_bound(power: int) -> None:
    native = NativeBuckets()
    for value in (2.0**power, 2.0**power * (1 + 1e-15)):
        native.add(value)
    assert native.counts == {8 * power: 1, 8 * power + 1: 1}


@given(st.lists(st.integers(0, 2_000_000), min_size=1, max_size=60))
def test_gaps_between_chunks_are_in_the_buckets_of_single_observations(gaps: list[int]) -> None:
    offsets = [0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    chunk = LLMChunk(request=1, part=0, kind="text", offsets_us=offsets)
    events = run_of(started(), asked(), chunk, answered())
    expected = NativeBuckets()
    for gap in gaps:
        expected.add(gap / 1e6)
    [found] = points(measured(events, MetricsAggregator(native=True)), GAPS)
    assert found.native is not None
    assert (found.native.counts, found.native.zero) == (expected.counts, expected.zero)
    [classic] = points(measured(events), GAPS)
    assert (found.value, found.counts) == (classic.value, classic.counts)
    assert classic.native is None
