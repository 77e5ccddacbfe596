"""Agents to observe, and the statistics of the OTLP exporter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from sidestream import Sidecar
from sidestream.stats import ExporterStats
from tests.support.loopback import until

SENTINEL = "S3NT1NEL"


async def _stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    answered = any(isinstance(message, ModelResponse) for message in messages)
    if info.function_tools and not answered:
        yield {0: DeltaToolCall(name="look", json_args=f'{{"q": "{SENTINEL}"}}', tool_call_id="call-1")}
        return
    for word in ("it ", "is ", f"{SENTINEL} 42"):
        yield word


def make_agent(name: str = "support") -> Agent[None, str]:
    """Agent that calls its tool `look` once, and then answers in three words."""
    agent = Agent(FunctionModel(stream_function=_stream), name=name, instructions=f"be {SENTINEL}")

    @agent.tool_plain
    def look(q: str) -> str:
        return f"found {q}"

    return agent


async def run_once(agent: Agent[None, str]) -> str:
    """Run the agent once; returns the streamed text."""
    text = ""
    async with agent.run_stream(f"what is {SENTINEL}?") as result:
        async for piece in result.stream_text(delta=True):
            text += piece
    return text


ANSWER = f"it is {SENTINEL} 42"


def observed_run(sidecar: Sidecar, runs: int = 1) -> None:
    """Run an observed agent, and assert that the caller gets the usual answer."""
    agent = sidecar.observe(make_agent())
    for _ in range(runs):
        assert asyncio.run(run_once(agent)) == ANSWER


def exporter_stats(sidecar: Sidecar) -> ExporterStats:
    """Statistics of the exporter without pending records. Asserts that they are balanced."""
    until(lambda: sidecar.stats().pending_records == 0)
    stats = sidecar.stats().exporters["otlp"]
    assert stats.seen == stats.exported + sum(stats.dropped.values()) + stats.pending
    return stats
