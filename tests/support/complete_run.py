"""Complete run of an agent, streamed or not."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic_ai import Agent


def run_to_its_end(agent: Agent[Any, Any], *, streamed: bool) -> None:
    """Run the agent once and consume every event."""

    async def main() -> None:
        if not streamed:
            await agent.run("hi")
            return
        async with agent.run_stream_events("hi") as events:
            async for _ in events:
                pass

    asyncio.run(main())
