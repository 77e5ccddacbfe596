"""Rows of an index: the columns by which lists are filtered and sorted. Each name is stored once, under a number."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import msgspec

from sidestream.events import AgentStart
from sidestream.log.runs.summary import RunSummary, summary_of

from .parts import RunPart, ScoreFacts

AGENT, CONVERSATION, MODELS, TOOLS, TAGS, OUTCOME, SCORES = range(7)
"""Kinds of names. Models, tools, tags and scores of a run are stored as one JSON text."""
NAMES = ("agent", "conversation", "models", "tools", "tags", "outcome", "scores")
"""Columns that hold numbers of names, by kind."""
COLUMNS = (
    "id", "run_id", "root", "trace", "file", "is_outer", "started", "duration", "cost", "tokens", "first_token",
    "own_cost", "bounds", "attempt", "attempt_of", *NAMES,
)  # fmt: skip

WHOLE_COST_IS_BOUND, OWN_COST_IS_BOUND = 1, 2
"""Bits of the column `bounds`."""

Value: TypeAlias = "str | bytes | int | float | None"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class UncheckedLiveness:
    """Liveness that never checks a writer. Readers determine at query time whether a run is running or lost."""

    def alive(self, start: AgentStart | None, files: list[str]) -> bool:
        return False


class NameTable:
    """Numbers of names, within one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[tuple[int, str], int] = {}

    def number(self, kind: int, text: str) -> int:
        number = self._known.get((kind, text))
        if number is None:
            found = self._db.execute("SELECT id FROM names WHERE kind = ? AND text = ?", [kind, text]).fetchone()
            if found is None:
                found = [self._db.execute("INSERT INTO names (kind, text) VALUES (?, ?)", [kind, text]).lastrowid]
            number = self._known[kind, text] = int(found[0])
        return number


def row_of(part: RunPart, run: int, file: int | None, names: NameTable) -> list[Value]:
    """Row with the id `run` for a run whose events are in `file`, or in several files if None."""
    summary = summary_of(part, [], UncheckedLiveness())
    whole, own = summary.is_lower_bound("cost", with_children=True), summary.is_lower_bound("cost")
    return [
        run,
        summary.run_id,
        None if summary.root_run_id == summary.run_id else summary.root_run_id,
        None if summary.trace_id is None else trace_key(summary.trace_id),
        file,
        summary.parent_run_id is None,
        microseconds(summary.started),
        _number(summary.duration_seconds),
        _number(summary.whole_cost_usd),
        _number(summary.whole_tokens),
        _number(summary.time_to_first_token_seconds),
        _number(summary.cost_usd),
        whole * WHOLE_COST_IS_BOUND + own * OWN_COST_IS_BOUND,
        _number(summary.attempt),
        summary.attempt_of,
        names.number(AGENT, summary.agent_name or ""),
        names.number(CONVERSATION, summary.conversation_id or ""),
        names.number(MODELS, _json(models_of(summary))),
        names.number(TOOLS, _json(summary.tools)),
        names.number(TAGS, _json(summary.tags)),
        names.number(OUTCOME, summary.outcome) if part.end is not None else None,
        names.number(SCORES, _json([_value_of(each) for each in summary.scores])),
    ]


def _value_of(score: ScoreFacts) -> ScoreFacts:
    """`score` without number and time, so that equal values are stored once."""
    return msgspec.structs.replace(score, seq=0, timestamp=_EPOCH)


def models_of(run: RunSummary) -> list[str]:
    """Model of the agent, `""` for none, followed by the models of the requests."""
    return [run.model or "", *run.models]


def trace_key(trace_id: str) -> str | bytes:
    """Stored form of `trace_id`: bytes if hexadecimal, at half the size."""
    try:
        key = bytes.fromhex(trace_id)
    except ValueError:
        return trace_id
    return key if key.hex() == trace_id else trace_id


def microseconds(when: datetime | None) -> int | None:
    """Microseconds since 1970-01-01; None if `when` is None."""
    return None if when is None else (when - _EPOCH) // _MICROSECOND


def joined(parts: Iterable[RunPart]) -> RunPart:
    """Parts of one run, merged, starting with the file of its earliest event."""
    first, *others = sorted(parts, key=lambda part: (part.first is None, part.first or _EPOCH))
    for other in others:
        first.add(other)
    return first


def _json(names: object) -> str:
    return msgspec.json.encode(names).decode()


def _number(value: float | None) -> float | None:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:  # SQLite integers have 64 bits
        return math.copysign(math.inf, value) if abs(value) > 2**1000 else float(value)
    return value
