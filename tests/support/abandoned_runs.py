"""Runs that their caller leaves in the middle, without closing them."""

from __future__ import annotations

import asyncio

from pydantic_ai import Agent


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
    """Leave a run in the middle without closing it, and the loop with it."""

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # as noisy as without a sidecar
        await ABANDON[number % len(ABANDON)](agent)

    asyncio.run(leave())
