"""Measured agents: offline, deterministic, with a model that answers at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any, Literal

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage, UsageLimits

Result = Literal["text", "records"]

AGENT = Agent[None, str]

TEXT_RESULT = "All work and no play makes Jack a dull boy. " * 125  # 5.5 KB
RECORDS_RESULT = [{"id": n, "title": f"Article number {n}", "score": n / 7, "tags": ["a", "b"]} for n in range(70)]


def text_agent(deltas: int, *, pause: float | None = None) -> AGENT:
    """Agent whose model answers in `deltas` one-word deltas, `pause` seconds apart."""

    async def stream(_messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
        for _ in range(deltas):
            if pause is not None:
                await asyncio.sleep(pause)
            yield "word "

    return Agent(FunctionModel(stream_function=stream), name="text")


def tool_agent(steps: int, result: Result) -> AGENT:
    """Agent that calls a tool in each of `steps` requests; each call adds 5.5 KB to the history."""
    requests = 0
    usage = RequestUsage(input_tokens=1_000, output_tokens=20)  # given, for else FunctionModel counts the whole history

    def respond(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        nonlocal requests
        requests = 0 if len(messages) == 1 else requests + 1
        if requests == steps:
            return ModelResponse(parts=[TextPart("done")], usage=usage)
        call = ToolCallPart("look_up", {"number": requests}, tool_call_id=f"call-{requests}")
        return ModelResponse(parts=[call], usage=usage)

    agent: AGENT = Agent(FunctionModel(respond), name="tools")

    @agent.tool_plain
    def look_up(number: int) -> Any:
        return f"{number}: {TEXT_RESULT}" if result == "text" else [{"number": number}, *RECORDS_RESULT]

    return agent


async def consume_events(agent: AGENT) -> None:
    async with agent.run_stream_events("go") as stream:
        async for _ in stream:
            pass


async def consume_text(agent: AGENT) -> None:
    async with agent.run_stream("go") as result:
        async for _ in result.stream_text(delta=True, debounce_by=None):
            pass


async def run_tools(agent: AGENT) -> None:
    await agent.run("go", usage_limits=UsageLimits(request_limit=None))


async def gaps_of_events(agent: AGENT, start: float) -> list[float]:
    """Seconds between the events that the caller receives from one run, which starts in `start` seconds."""
    times: list[float] = []
    await asyncio.sleep(start)
    async with agent.run_stream_events("go") as stream:
        async for _ in stream:
            times.append(perf_counter())
    return [later - earlier for earlier, later in itertools.pairwise(times)]
