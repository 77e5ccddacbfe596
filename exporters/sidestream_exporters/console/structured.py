"""Structured lines: each event as one flat dict, rendered by a chain of structlog processors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace
from structlog.processors import JSONRenderer, LogfmtRenderer
from structlog.typing import EventDict, Processor

from sidestream.events import Json, StreamEvent, Usage, verdict_of
from sidestream.terminal.text import sanitize

_LEFT_OUT = frozenset({"lengths", "offsets_us", "pid", "host", "span_id", "parent_span_id", "price_version"})


class Place(NamedTuple):
    """Position of a run in its tree of sub-agents."""

    root: str
    """Id of the root run."""
    depth: int
    """Levels below the root run; 0 for the root itself."""


class StructuredLine:
    """Processor chain for events: the application's processors, then the renderer of the format.

    The format `pretty` has no renderer: changes by the application's processors are copied back into the event, which
    `PrettyLines` then lays out.
    """

    def __init__(self, format: str, processors: Sequence[Processor], verbose: bool) -> None:
        self._chain = [*processors, *RENDERERS.get(format, ())]
        self._verbose = verbose

    def line(self, event: StreamEvent, place: Place) -> str | StreamEvent:
        """Text of the line, or the changed event if no processor rendered it. Processors' exceptions propagate."""
        before = _flat(event, place, self._verbose)
        fields: Any = dict(before)
        for processor in self._chain:
            fields = processor(None, fields.get("level", "info"), fields)
            if isinstance(fields, str):
                return fields
            if isinstance(fields, bytes | bytearray):
                return fields.decode("utf-8", "backslashreplace")
        return _changed(event, before, fields)


def _changed(event: StreamEvent, before: EventDict, after: EventDict) -> StreamEvent:
    """Copy of `event` with the values that processors changed or removed. Counts within `usage` stay unchanged."""
    names = (name for name in event.data if name in before and before[name] is event.data[name])
    changes = {name: after.get(name) for name in names if after.get(name) is not before[name]}
    data = replace(event.data, **changes) if changes else event.data
    agent = after.get("agent")
    return event if data is event.data and agent == event.agent_name else replace(event, data=data, agent_name=agent)


def _flat(event: StreamEvent, place: Place, verbose: bool) -> EventDict:
    """Flat dict of `event`, keyed by the field names of the event contract."""
    data = event.data
    fields: dict[str, Any] = {
        "timestamp": event.timestamp.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": _level(event),
        "event": event.event_type.value,
        "agent": event.agent_name,
        "run_id": event.run_id,
        "seq": event.seq,
        "root_run_id": place.root,
        "depth": place.depth,
    }
    for name in data:
        value = getattr(data, name)
        if name in _LEFT_OUT or (not verbose and name in data.content_fields and name not in ("error", "message")):
            continue
        if isinstance(value, Usage):
            suffix = name.removeprefix("usage")
            fields |= {f"{count}{suffix}": getattr(value, count) for count in value if count != "details"}
        elif name == "time_to_first_token_seconds":
            if value:
                fields[name] = min(value.values())
        elif name == "failed_attempts":
            fields[name] = len(value)
        else:
            fields[name] = value
    return fields


def _level(event: StreamEvent) -> str:
    """Log level of `event`: `error` for faults, `warning` for retries and outcomes that the caller caused."""
    outcome = event.data.get("outcome")
    if event.event_type == "error":
        return "error"
    if event.event_type == "retry" or outcome == "retry":
        return "warning"
    verdict = verdict_of(outcome) if outcome else "ok"
    return {"fault": "error", "caller": "warning"}.get(verdict, "info")


def _dumps(value: Json, **options: Any) -> str:
    """JSON in ASCII, without terminal control sequences. NaN and infinities, which JSON lacks, become null."""
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        plain = json.loads(json.dumps(value, **options), parse_constant=lambda constant: None)
        return json.dumps(plain)


def _scalars(_logger: Any, _method: str, fields: EventDict) -> EventDict:
    """Processor that leaves scalars only, for logfmt: numbers, booleans, sanitized text; other values as JSON."""
    return {
        key: sanitize(value, keep="\n")
        if isinstance(value, str)
        else value
        if isinstance(value, bool | int | float)
        else _dumps(value, default=repr)
        for key, value in fields.items()
        if value is not None
    }


RENDERERS: dict[str, list[Processor]] = {
    "json": [JSONRenderer(serializer=_dumps)],
    "logfmt": [_scalars, LogfmtRenderer(bool_as_flag=False)],
}
"""Final processors of the chain, by format."""
