"""Agents to observe, logs to export, and waiting without sleeping on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from sidestream import Sidecar
from sidestream.events import AgentEnd, AgentStart, LLMEnd, LLMStart, Payload, StreamEvent, make_event
from sidestream.stats import ExporterStats
from tests.support.loopback import until

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
SENTINEL = "S3NT1NEL"


# --- agents --------------------------------------------------------------------------------------------------------


async def _stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    answered = any(isinstance(message, ModelResponse) for message in messages)
    if info.function_tools and not answered:
        yield {0: DeltaToolCall(name="look", json_args=f'{{"q": "{SENTINEL}"}}', tool_call_id="call-1")}
        return
    for word in ("it ", "is ", f"{SENTINEL} 42"):
        yield word


def make_agent(name: str = "support") -> Agent[None, str]:
    """An agent that calls its tool `look` once, and then answers in three words."""
    agent = Agent(FunctionModel(stream_function=_stream), name=name, instructions=f"be {SENTINEL}")

    @agent.tool_plain
    def look(q: str) -> str:
        return f"found {q}"

    return agent


async def run_once(agent: Agent[None, str]) -> str:
    """One run as a caller sees it: the text that was streamed."""
    text = ""
    async with agent.run_stream(f"what is {SENTINEL}?") as result:
        async for piece in result.stream_text(delta=True):
            text += piece
    return text


ANSWER = f"it is {SENTINEL} 42"


def observed_run(sidecar: Sidecar, runs: int = 1) -> None:
    """Runs of an observed agent, whose caller gets what it would get without anybody watching."""
    agent = sidecar.observe(make_agent())
    for _ in range(runs):
        assert asyncio.run(run_once(agent)) == ANSWER


def exporter_stats(sidecar: Sidecar) -> ExporterStats:
    """The exporter's exporter_stats, which must balance, with all in them that has been put."""
    until(lambda: sidecar.stats().pending_records == 0)
    stats = sidecar.stats().exporters["otlp"]
    assert stats.seen == stats.exported + sum(stats.dropped.values()) + stats.pending
    return stats


# --- events --------------------------------------------------------------------------------------------------------


def log(
    run_id: str, *payloads: Payload | tuple[float, Payload], agent_name: str | None = "support"
) -> list[StreamEvent]:
    """The events of one run, half a second apart unless a payload comes with its offset."""
    events = []
    for seq, item in enumerate(payloads):
        offset, data = item if isinstance(item, tuple) else (seq * 0.5, item)
        moment = BEGAN + timedelta(seconds=offset)
        events.append(make_event(data, timestamp=moment, offset=offset, run_id=run_id, seq=seq, agent_name=agent_name))
    return events


def start(run_id: str, **facts: Any) -> AgentStart:
    return AgentStart(**{"root_run_id": run_id, "model": "gpt-5-mini", **facts})


def ask(request: int = 1, **facts: Any) -> LLMStart:
    return LLMStart(**{"request": request, "model": "gpt-5-mini", "provider": "openai", "streaming": True, **facts})


def answered(request: int = 1, **facts: Any) -> LLMEnd:
    known = {"request": request, "outcome": "ok", "duration_seconds": 0.4, "usage_source": "none"}
    return LLMEnd(**{**known, "model": "gpt-5-mini", "provider": "openai", "streaming": True, **facts})


def end(**facts: Any) -> AgentEnd:
    return AgentEnd(**{"outcome": "completed", "success": True, "duration_seconds": 3.0, **facts})


def in_batches(events: Sequence[StreamEvent], size: int) -> list[list[StreamEvent]]:
    return [list(events[at : at + size]) for at in range(0, len(events), size)]
