"""Runs abandoned by their caller in mid-stream, without being closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel


def two_pieces() -> FunctionModel:
    """Model that answers in two pieces, so that a caller can leave after the first."""

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "one "
        await asyncio.sleep(0)
        yield "two"

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("one two")])

    return FunctionModel(answer, stream_function=stream)


async def _abandon_events(agent: Agent[None, str]) -> None:
    events = await agent.run_stream_events("go").__aenter__()
    async for _ in events:
        break


async def _abandon_stream(agent: Agent[None, str]) -> None:
    stream = await agent.run_stream("go").__aenter__()
    async for _ in stream.stream_text(delta=True, debounce_by=None):
        break


async def _abandon_iteration(agent: Agent[None, str]) -> None:
    run = await agent.iter("go").__aenter__()
    async for _ in run:
        break


ABANDON = (_abandon_events, _abandon_stream, _abandon_iteration)


def abandon(agent: Agent[None, str], number: int) -> None:
    """Abandon a run in mid-stream without closing it, and end the event loop."""

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # as without a sidecar
        await ABANDON[number % len(ABANDON)](agent)

    asyncio.run(leave())
