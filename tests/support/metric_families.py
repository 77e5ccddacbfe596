"""Reader of Prometheus' protobuf format, by the protobuf library and client_model's message definitions."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ACCEPT = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""`Accept` header of Prometheus with native histograms."""

MESSAGES = {
    "LabelPair": "name:string=1 value:string=2",
    "Gauge": "value:double=1",
    "Counter": "value:double=1 exemplar:Exemplar=2 created_timestamp:Timestamp=3",
    "Timestamp": "seconds:int64=1 nanos:int32=2",
    "Histogram": "sample_count:uint64=1 sample_sum:double=2 bucket:Bucket*=3 schema:sint32=5 zero_threshold:double=6 "
    "zero_count:uint64=7 positive_span:BucketSpan*=12 positive_delta:sint64*=13 created_timestamp:Timestamp=15",
    "Bucket": "cumulative_count:uint64=1 upper_bound:double=2 exemplar:Exemplar=3",
    "BucketSpan": "offset:sint32=1 length:uint32=2",
    "Exemplar": "label:LabelPair*=1 value:double=2 timestamp:Timestamp=3",
    "Metric": "label:LabelPair*=1 gauge:Gauge=2 counter:Counter=3 histogram:Histogram=7",
    "MetricFamily": "name:string=1 help:string=2 type:int32=3 metric:Metric*=4",
}
"""Fields (`name:type=number`, `*`: repeated) of client_model's io/prometheus/client/metrics.proto that are in use."""


@cache
def _family_class() -> Any:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package="io.prometheus.client")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for each in fields.split():
            label, _, rest = each.partition(":")
            kind, _, number = rest.partition("=")
            repeated, kind = kind.endswith("*"), kind.rstrip("*")
            added = message.field.add(name=label, number=int(number))
            added.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if kind in MESSAGES:
                added.type, added.type_name = field.TYPE_MESSAGE, f".io.prometheus.client.{kind}"
            else:
                added.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("io.prometheus.client.MetricFamily"))


def _varint(data: bytes) -> tuple[int, int]:
    """Number at the start of `data`, and its length in bytes."""
    used = next(place for place, byte in enumerate(data, 1) if byte < 0x80)
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data[:used])), used


def families(page: bytes) -> dict[str, Any]:
    """Metric families of a page by name. Fails on fields that the definitions do not have."""
    found = {}
    while page:
        length, used = _varint(page)
        family = _family_class().FromString(page[used : used + length])
        again = family.SerializeToString(deterministic=True)
        family.DiscardUnknownFields()
        assert family.SerializeToString(deterministic=True) == again, f"{family.name} has unknown fields"
        found[family.name] = family
        page = page[used + length :]
    return found


def native_counts(histogram: Any) -> dict[int, int]:
    """Observations by bucket index."""
    found, index, count, deltas = {}, 0, 0, iter(histogram.positive_delta)
    for span in histogram.positive_span:
        index += span.offset
        for _ in range(span.length):
            count += next(deltas)
            found[index] = count
            index += 1
    assert next(deltas, None) is None
    return found
