"""Tool calls while the answer streams: pydantic-ai's own events, unchanged by the sidecar."""

import asyncio
import os

from pydantic_ai import Agent
from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    PartDeltaEvent,
    TextPartDelta,
)

from sidestream import Sidecar

agent = Agent(os.environ.get("MODEL", "test"), name="helper")


@agent.tool_plain
async def search(query: str) -> list[str]:
    """Search the catalogue."""
    await asyncio.sleep(0.01)
    return ["first item", "second item"]


@agent.tool_plain
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def main() -> None:
    async with agent.run_stream_events("What is 25 + 10, and what do you have of it?") as events:
        async for event in events:
            if isinstance(event, FunctionToolCallEvent):
                print(f"[calling {event.part.tool_name}]")
            elif isinstance(event, FunctionToolResultEvent):
                print(f"[{event.part.tool_name}: {event.part.content}]")
            elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                print(event.delta.content_delta, end="", flush=True)
    print()


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
