"""Prometheus' protobuf format, the only one with native histograms: a second renderer of the store's points.

The page is a sequence of `io.prometheus.client.MetricFamily` messages, each after its length, as defined by
https://github.com/prometheus/client_model. docs/decisions/metrics-store.md has the reasons for an own encoder.

    field of bytes:   key, length, bytes      key = field number * 8 + wire type, as a varint
    -2 as sint:       zigzag 3                varint: seven bits a byte, the lowest first
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from math import inf

from sidestream.metrics.definitions import Metric
from sidestream.metrics.native import ZERO_THRESHOLD, NativeBuckets
from sidestream.metrics.store import Exemplar, Point
from sidestream.pipeline.yielding import GilYielder

from . import compat

MEDIA_TYPE = "application/vnd.google.protobuf"
CONTENT_TYPE = f"{MEDIA_TYPE}; proto=io.prometheus.client.MetricFamily; encoding=delimited"

_TYPES = {"counter": 0, "gauge": 1, "histogram": 4}
_VALUES = {"counter": 3, "gauge": 2, "histogram": 7}
"""Number of the field of `Metric` with the value."""
_GAP = 2
"""Longest run of empty buckets within a span; client_golang's choice."""


def is_preferred(accept: str) -> bool:
    """Whether the `Accept` header prefers this format: its quality is the highest, and the first of equals."""
    best, preferred = 0.0, False
    for each in accept.lower().replace(" ", "").replace('"', "").split(","):
        media_type, *parameters = each.split(";")
        given = dict(parameter.partition("=")[::2] for parameter in parameters)
        try:
            quality = float(given.get("q", 1))
        except ValueError:
            continue
        if quality > best:
            best = quality
            preferred = (
                media_type == MEDIA_TYPE
                and given.get("proto") == "io.prometheus.client.metricfamily"
                and given.get("encoding") == "delimited"
            )
    return preferred


def render(metrics: Sequence[Metric], snapshot: Mapping[str, Sequence[Point]]) -> bytes:
    """Page of all metrics that have a time series."""
    return b"".join(_families(metrics, snapshot))


def _families(metrics: Sequence[Metric], snapshot: Mapping[str, Sequence[Point]]) -> Iterator[bytes]:
    yielder, with_created = GilYielder(), compat.wants_created()
    for metric in metrics:
        if points := snapshot.get(metric.name):
            kind = b"\x18" + _varint(_TYPES[metric.kind])
            parts = [_text(1, metric.name), _text(2, metric.help), kind]
            for point in points:
                parts.append(_bytes(4, _metric(metric, point, with_created)))
                yielder.maybe_yield()
            family = b"".join(parts)
            yield _varint(len(family))
            yield family


def _metric(metric: Metric, point: Point, with_created: bool) -> bytes:
    labels = [_label(name, text) for name, text in zip(metric.labels, point.labels, strict=True) if text]
    value = b"".join(_histogram(metric, point) if metric.kind == "histogram" else _single(metric, point))
    if with_created and point.created and metric.kind != "gauge":
        value += _bytes(15 if metric.kind == "histogram" else 3, _timestamp(point.created))
    return b"".join((*labels, _bytes(_VALUES[metric.kind], value)))


def _single(metric: Metric, point: Point) -> Iterator[bytes]:
    yield b"\x09" + _pack(point.value)
    if point.exemplars and metric.kind == "counter":
        yield _bytes(2, _exemplar(point.exemplars[0]))


def _histogram(metric: Metric, point: Point) -> Iterator[bytes]:
    """Classic and native buckets, as client_golang sends both.

    Prometheus stores the native ones only, except during a migration (`always_scrape_classic_histograms`), or if native
    histograms are switched off. Its versions up to 2.50 read exemplars from classic buckets only.
    """
    yield b"\x08" + _varint(sum(point.counts))
    yield b"\x11" + _pack(point.value)
    exemplars = {bisect_left(metric.buckets, one.value): one for one in point.exemplars}
    total = 0
    for number, (bound, count) in enumerate(zip(_bounds(metric.buckets), point.counts, strict=True)):
        total += count
        bucket = b"\x08%b%b" % (_varint(total), bound)
        if number in exemplars:
            bucket += b"\x1a" + _sized(_exemplar(exemplars[number]))
        yield b"\x1a" + _sized(bucket)
    if point.native is not None:
        yield from _native(point.native)


def _native(native: NativeBuckets) -> Iterator[bytes]:
    yield b"\x28" + _zigzag(native.schema)
    yield _ZERO_THRESHOLD
    yield b"\x38" + _varint(native.zero)
    spans, deltas = _spans(native.counts)
    for offset, length in spans:
        yield b"\x62" + _sized(b"\x08" + _zigzag(offset) + b"\x10" + _varint(length))
    if deltas:
        yield b"\x6a" + _sized(b"".join(map(_zigzag, deltas)))


@cache
def _bounds(buckets: tuple[float, ...]) -> list[bytes]:
    """Field `upper_bound` of each classic bucket."""
    return [b"\x11" + _pack(bound) for bound in (*buckets, inf)]


def _spans(counts: Mapping[int, int]) -> tuple[list[list[int]], list[int]]:
    """Spans of consecutive buckets (offset from the end of the last one, length), and the difference of each count to
    the one before."""
    spans: list[list[int]] = []
    deltas: list[int] = []
    following, before = 0, 0
    for index in sorted(counts):
        empty = index - following
        if not spans or empty > _GAP:
            spans.append([empty, 0])
        elif empty:
            deltas += [-before, *[0] * (empty - 1)]
            spans[-1][1] += empty
            before = 0
        deltas.append(counts[index] - before)
        spans[-1][1] += 1
        following, before = index + 1, counts[index]
    return spans, deltas


@lru_cache(4096)
def _label(name: str, text: str) -> bytes:
    return _bytes(1, _text(1, name) + _text(2, text))


def _exemplar(exemplar: Exemplar) -> bytes:
    origin = exemplar.origin
    parts = [_id(name, text) for name, text in zip(_ID_NAMES, origin[:3], strict=True) if text]
    return b"".join((*parts, b"\x11", _pack(exemplar.value), b"\x1a", _sized(_timestamp(origin.timestamp))))


_ID_NAMES = (b"trace_id", b"span_id", b"run_id")


def _id(name: bytes, text: str) -> bytes:
    """Label of an exemplar, much shorter than 128 bytes: each length is one byte."""
    size = len(text)
    return b"\x0a%c\x0a%c%b\x12%c%b" % (size + len(name) + 4, len(name), name, size, text.encode())


def _timestamp(seconds: float) -> bytes:
    whole = int(seconds)
    return b"\x08" + _varint(whole) + b"\x10" + _varint(int((seconds - whole) * 1e9))


# --- wire format ---------------------------------------------------------------------------------------------------


_SMALL = [bytes((number,)) for number in range(0x80)]


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _SMALL[number]
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _zigzag(number: int) -> bytes:
    return _varint(2 * number if number >= 0 else -2 * number - 1)


def _sized(content: bytes) -> bytes:
    """`content` after its length."""
    return _varint(len(content)) + content


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field * 8 + 2) + _sized(content)


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


_pack = struct.Struct("<d").pack
"""Field value of a double; its key is field number * 8 + 1."""
_ZERO_THRESHOLD = b"\x31" + _pack(ZERO_THRESHOLD)
