"""Scores of runs as log records of OpenTelemetry's event `gen_ai.evaluation.result`, linked to the span of the run.

The conventions define an evaluation as an event of the logs signal. A span event is no alternative: a score comes when
the span of its run is over, and a finished span takes no more events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from sidestream.events import Score, StreamEvent
from sidestream.events.ids import derive_id, span_id_of

from .compat import log_record
from .content import as_text
from .readable import plain
from .runs import LEFT_OUT, Attributes, clamp, hex_id, short_texts, unix_ns
from .semantic_conventions import SemanticConventions

UID = "log.record.uid"
"""Attribute with the unique id of a score, equal in a replay, so that back ends detect duplicates."""


@dataclass(slots=True)
class ScoreRecord:
    """Log record of one score, in plain values."""

    event_name: str
    at: int
    """Unix nanoseconds."""
    trace_id: int | None
    """None, as `span_id`, if the trace of the run is unknown; the attribute `sidestream.run_id` identifies the run."""
    span_id: int | None
    attributes: Attributes
    run_id: str
    seq: int

    def text_length(self) -> int:
        """Number of characters in attributes."""
        return sum(len(value) for value in self.attributes.values() if isinstance(value, str))

    def without_long_texts(self) -> ScoreRecord | None:
        """Copy without texts longer than `LONG_TEXT`, and with the attribute `LEFT_OUT`; None without long texts."""
        attributes, left_out = short_texts(self.attributes)
        return replace(self, attributes={**attributes, LEFT_OUT: left_out}) if left_out else None


def score_records(
    names: SemanticConventions, events: Iterable[StreamEvent], trace_of: Callable[[str], int | None]
) -> Iterator[ScoreRecord]:
    """Log records of the scores among `events`.

    Args:
        names: Names of attributes.
        events: Events with the content policy applied.
        trace_of: Function from a run id to the trace id of a run seen by the exporter, for scores without one.
    """
    for event in events:
        data = event.data
        if isinstance(data, Score):
            trace_id = hex_id(data.trace_id, 16) or trace_of(event.run_id)
            attributes = {
                names.evaluation: data.name,
                names.evaluation_value: data.number,
                names.evaluation_label: data.label,
                names.evaluation_explanation: None if data.comment is None else as_text(data.comment),
                names.agent: event.agent_name,
                "sidestream.run_id": event.run_id,
                UID: derive_id(event.run_id, str(event.seq), size=16),
            }
            yield ScoreRecord(
                event_name=names.evaluation_result,
                at=clamp(unix_ns(event.timestamp)),
                trace_id=trace_id,
                span_id=None if trace_id is None else hex_id(data.span_id, 8) or hex_id(span_id_of(event.run_id, 0), 8),
                attributes=attributes,
                run_id=event.run_id,
                seq=event.seq,
            )


def readable_records(records: Sequence[ScoreRecord], resource: Resource, scope: InstrumentationScope) -> list[Any]:
    """Log records of the SDK for `records`."""
    return [
        log_record(each.event_name, each.at, each.trace_id, each.span_id, plain(each.attributes), resource, scope)
        for each in records
    ]
