"""Selection of the events that an exporter's record of deliveries lacks, for a replay after an outage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from sidestream.errors import ConfigurationError
from sidestream.events import AgentEnd, AgentStart, LLMChunk, LLMEnd, LLMStart, Score, StreamEvent, ToolEnd, ToolStart
from sidestream.pipeline.exporter import Exporter


@runtime_checkable
class HasRecord(Protocol):
    """Exporter that keeps a record of its deliveries."""

    def delivered(self) -> Mapping[str, set[int]] | None:
        """Sequence numbers of the start events whose spans were delivered, by run. None if no record is kept."""


class Missing:
    """Filter that leaves out what an exporter's record lists as delivered.

    The record names each delivery by the sequence number of its start event: of the run, a request or a tool call. A
    delivered part is left out from its start to its end, and a run without missing parts altogether.
    """

    def __init__(self, delivered: Mapping[str, set[int]]) -> None:
        self._delivered = delivered
        self._runs: dict[str, _PartialRun] = {}
        self.left_out = 0

    def __call__(self, event: StreamEvent) -> Iterable[StreamEvent]:
        there = self._delivered.get(event.run_id)
        if type(event.data) is Score:
            known = there is not None and event.seq in there
            self.left_out += known
            return () if known else (event,)
        if there is None:
            return (event,)
        run = self._runs.setdefault(event.run_id, _PartialRun(there))
        chosen = run.choose(event)
        if type(event.data) is AgentEnd:
            del self._runs[event.run_id]
        self.left_out += 1 - len(chosen)
        return chosen


class _PartialRun:
    """Selection within one run that was partly delivered."""

    def __init__(self, there: set[int]) -> None:
        self._there = there
        self._start: StreamEvent | None = None
        self._begun: dict[tuple[object, ...], int] = {}

    def choose(self, event: StreamEvent) -> list[StreamEvent]:
        data, seq = event.data, event.seq
        match data:
            case AgentStart():
                self._start = event  # exported together with the first missing event
                return []
            case AgentEnd():
                missing = 0 not in self._there
            case LLMStart() | ToolStart():
                self._begun[_name(data)] = seq
                missing = seq not in self._there
            case LLMEnd() | ToolEnd():
                missing = self._begun.pop(_name(data), seq) not in self._there
            case LLMChunk():
                missing = self._begun.get(("request", data.request), seq) not in self._there
            case _:
                missing = 0 not in self._there
        if not missing:
            return []
        start, self._start = self._start, None
        return [event] if start is None else [start, event]


def _name(data: Any) -> tuple[object, ...]:
    if isinstance(data, LLMStart | LLMEnd):
        return "request", data.request
    return data.tool_name, data.tool_call_id


def record_of(exporter: Exporter) -> Mapping[str, set[int]]:
    """Record of `exporter`. Raises `ConfigurationError` if the exporter keeps none."""
    record = exporter.delivered() if isinstance(exporter, HasRecord) else None
    if record is None:
        raise ConfigurationError(
            f"exporter {exporter.name!r} keeps no record of deliveries, which --only-missing needs; "
            f"specify the record of the application's exporter, such as otlp:URL?record=PATH"
        )
    return record
