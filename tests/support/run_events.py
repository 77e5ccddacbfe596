"""Builders of events: payloads with defaults, and runs from payloads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sidestream.events import AgentEnd, AgentStart, LLMChunk, LLMEnd, LLMStart, Payload, StreamEvent, make_event

BEGAN = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
MODEL: dict[str, Any] = {"model": "gpt-5-mini", "provider": "openai"}


def event_log(
    run_id: str,
    *payloads: Payload | tuple[float, Payload],
    agent: str | None = "support",
    began: datetime = BEGAN,
    gap: float = 0.5,
) -> list[StreamEvent]:
    """Events of one run: each payload at its given offset, or `gap` seconds after the previous one."""
    events = []
    for seq, item in enumerate(payloads):
        offset, data = item if isinstance(item, tuple) else (round(seq * gap, 6), item)
        moment = began + timedelta(seconds=offset)
        events.append(make_event(data, timestamp=moment, offset=offset, run_id=run_id, seq=seq, agent_name=agent))
    return events


def start(run_id: str, **facts: Any) -> AgentStart:
    """`agent_start` of a root run."""
    return AgentStart(**{"root_run_id": run_id, "model": MODEL["model"], **facts})


def ask(request: int = 1, **facts: Any) -> LLMStart:
    """`llm_start` of a streamed request."""
    return LLMStart(**{"request": request, "streaming": True, **MODEL, **facts})


def chunk(
    *pieces: str, request: int = 1, part: int = 0, kind: Any = "text", gap_us: int = 10_000, **facts: Any
) -> LLMChunk:
    """`llm_chunk` of `pieces` that arrived `gap_us` microseconds apart."""
    offsets = [gap_us * number for number in range(len(pieces))]
    times: dict[str, Any] = {"lengths": [*map(len, pieces)], "offsets_us": offsets}
    return LLMChunk(request=request, part=part, kind=kind, text="".join(pieces), **times, **facts)


def answer(request: int = 1, outcome: str = "ok", **facts: Any) -> LLMEnd:
    """`llm_end`; the usage, if any, is the provider's."""
    source = "provider" if facts.get("usage") else "none"
    usual = {"streaming": True, "duration_seconds": 0.4, "usage_source": source, **MODEL}
    return LLMEnd(**{"request": request, "outcome": outcome, **usual, **facts})


def end(outcome: str = "completed", **facts: Any) -> AgentEnd:
    """`agent_end`, successful if the outcome is `completed`."""
    return AgentEnd(**{"outcome": outcome, "success": outcome == "completed", "duration_seconds": 3.0, **facts})
