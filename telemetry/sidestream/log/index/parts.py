"""Parts: numbers and names of one run in one log file, enough for lists and statistics, without content.

Parts of a run from several files, or from several readings of one file, are merged by `RunPart.add`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from sidestream.events import (
    AgentEnd,
    AgentStart,
    Usage,
)
from sidestream.log.sequence import Ranges

UNKNOWN_MODEL = "unknown"
"""Model name of a request without an announced model, such as in a tapped stream; the answer may name the model."""


class RequestFacts(msgspec.Struct, array_like=True, gc=False):
    """Facts of one finished model request."""

    seq: int
    timestamp: datetime
    offset: float
    """Offset of the end: seconds since the start of the run."""
    request: int
    model: str | None
    response_model: str | None
    provider: str | None
    outcome: str
    duration_seconds: float
    time_to_first_token_seconds: float | None
    """Seconds to the first token of any kind."""
    usage: Usage | None
    cost_usd: float | None
    """Cost including failed attempts of a fallback model; None if unknown."""
    unpriced: int
    """Number of requests and attempts that used tokens without a known price."""
    partial: bool
    """Whether the request was cut off before its whole usage was known."""
    unmeasured: bool
    """Whether the request was answered but no usage was reported."""
    stalls: int
    finish_reason: str | None


class ToolFacts(msgspec.Struct, array_like=True, gc=False):
    """Facts of one finished tool call."""

    seq: int
    timestamp: datetime
    tool_name: str
    outcome: str
    duration_seconds: float | None


class BegunFacts(msgspec.Struct, array_like=True, gc=False):
    """Facts of one model request that was sent, finished or not."""

    seq: int
    model: str
    provider: str | None


class ErrorFacts(msgspec.Struct, array_like=True, gc=False):
    """Facts of one error."""

    seq: int
    where: str
    exception_type: str | None


class ScoreFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Score without its comment."""

    seq: int
    timestamp: datetime
    name: str
    value: bool | float | None = None
    label: str | None = None

    @property
    def number(self) -> float | None:
        """Value as a number: 1 for true, 0 for false, None without a value."""
        return None if self.value is None else float(self.value)


class Facts(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """Requests and tool calls of a run: the first fields of a part, decodable without the rest."""

    run_id: str
    requests: list[RequestFacts] = []
    tools: list[ToolFacts] = []


class RunPart(Facts, kw_only=True, array_like=True, gc=False):
    """Everything that one file holds of a run, without content."""

    agent_name: str | None = None
    seqs: list[list[int]] = []
    """Sequence numbers, as sorted ranges `[first, last]`."""
    duplicates: int = 0
    """Number of lines whose sequence number had occurred before."""
    chunks: int = 0
    """Number of lines that are `llm_chunk`."""
    first: datetime | None = None
    last: datetime | None = None
    """Times of the earliest and the latest event, except chunks."""
    last_offset: float = 0.0
    """Highest offset (for chunks, that of the last): seconds since the start of the run."""
    start: AgentStart | None = None
    """`agent_start` data without the prompt."""
    started: datetime | None = None
    end: AgentEnd | None = None
    ended: datetime | None = None
    begun: list[BegunFacts] = []
    tools_begun: list[int] = []
    """Sequence numbers of the `tool_start` events."""
    retries: list[int] = []
    """Sequence numbers of the `retry` events."""
    errors: list[ErrorFacts] = []
    spans: list[list[int]] = []
    """Byte ranges of the lines in the file, with the number of the first line: `[start, end, line]`."""
    last_chunk: int = -1
    """Sequence number of the last line, if that is an `llm_chunk`, else -1."""
    tool_names: list[str] = []
    """Names of the tools called, each once, in order of their first call."""
    scores: list[ScoreFacts] = []
    """Scores of the run. They are not events of the run itself, so that a part may consist of scores alone."""

    @property
    def root_run_id(self) -> str:
        return self.start.root_run_id if self.start is not None else self.run_id

    @property
    def is_run(self) -> bool:
        """Whether the part holds events of the run itself, and not only scores."""
        return bool(self.seqs)

    @property
    def events(self) -> int:
        """Number of events, without duplicates."""
        return sum([last - first + 1 for first, last in self.seqs])

    def add(self, other: RunPart) -> None:
        """Merge the part of another file into this one, except `spans`. Events in both are counted once."""
        known = Ranges(self.seqs)
        had = self.events
        new = [facts for facts in other.requests if facts.seq not in known]
        self.requests = sorted([*self.requests, *new], key=_seq)
        self.tools = sorted([*self.tools, *(facts for facts in other.tools if facts.seq not in known)], key=_seq)
        self.errors = sorted([*self.errors, *(facts for facts in other.errors if facts.seq not in known)], key=_seq)
        self.begun = sorted([*self.begun, *(facts for facts in other.begun if facts.seq not in known)], key=_seq)
        self.tools_begun = sorted([*self.tools_begun, *(seq for seq in other.tools_begun if seq not in known)])
        self.retries = sorted([*self.retries, *(seq for seq in other.retries if seq not in known)])
        self.tool_names = list(dict.fromkeys([*self.tool_names, *other.tool_names]))
        scores = {facts.seq: facts for facts in (*self.scores, *other.scores)}
        self.scores = sorted(scores.values(), key=_seq)
        for first, last in other.seqs:
            known.add(first, last)
        self.seqs = known.ranges
        # Events of `other` that added no new number are duplicates.
        self.duplicates += other.duplicates + other.events - (self.events - had)
        self.chunks += other.chunks
        self.agent_name = self.agent_name or other.agent_name
        self.first = _best(min, self.first, other.first)
        self.last = _best(max, self.last, other.last)
        self.last_offset = max(self.last_offset, other.last_offset)
        if self.start is None:
            self.start, self.started = other.start, other.started
        if self.end is None:
            self.end, self.ended = other.end, other.ended


def _seq(facts: Any) -> int:
    seq: int = facts.seq
    return seq


def _best(choose: Any, a: datetime | None, b: datetime | None) -> datetime | None:
    return choose(a, b) if a is not None and b is not None else a or b


def join_spans(spans: Iterable[list[int]]) -> list[list[int]]:
    """`spans` of one file, sorted, with touching spans merged."""
    joined: list[list[int]] = []
    for start, end, line in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(end, joined[-1][1])
        else:
            joined.append([start, end, line])
    return joined


def as_utc(when: datetime) -> datetime:
    """`when` in UTC. A time without an offset is UTC, because other writers may omit the `Z`."""
    try:
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except OverflowError:  # within hours of the first or last representable time
        return when.replace(tzinfo=UTC)
