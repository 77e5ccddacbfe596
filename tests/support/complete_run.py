"""A run of an agent from its prompt to its end, streamed or not."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic_ai import Agent


def run_to_its_end(agent: Agent[Any, Any], *, streamed: bool) -> None:
    """One run, whose caller takes every event of it."""

    async def main() -> None:
        if not streamed:
            await agent.run("hi")
            return
        async with agent.run_stream_events("hi") as events:
            async for _ in events:
                pass

    asyncio.run(main())
