"""Patterns for the streaming functions: composable handlers, a dashboard, a slow client, a timeout."""

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from pydantic_ai import Agent

from sidestream import StreamEventType, collect_stream_result, run_stream

agent = Agent(os.environ.get("MODEL", "test"), name="assistant")


@agent.tool_plain
def read_file(path: str) -> str:
    """Read a file."""
    return f"what is in {path}"


def show_text(event: Any) -> None:
    if event.event_type == StreamEventType.LLM_CHUNK:
        print(event.data["text"], end="", flush=True)


def show_progress(event: Any) -> None:
    if event.event_type == StreamEventType.PROGRESS:
        print(f"\n[{event.data['total_tokens']} tokens]")


async def with_handlers(prompt: str, *handlers: Callable[[Any], None]) -> None:
    async for event in run_stream(agent, prompt):
        for handler in handlers:
            handler(event)


async def dashboard(prompt: str) -> dict[str, list[Any]]:
    """Payloads by event type, collected during the run."""
    by_type: dict[str, list[Any]] = defaultdict(list)
    await collect_stream_result(agent, prompt, on_event=lambda event: by_type[event.event_type].append(event.data))
    return by_type


async def slow_client(prompt: str) -> int:
    """Number of events that a slow client gets. Back-pressure: the run waits while the client's queue is full."""
    queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=2)
    taken = 0

    async def produce() -> None:
        async for event in run_stream(agent, prompt):
            await queue.put(event)
        await queue.put(None)

    async def consume() -> None:
        nonlocal taken
        while await queue.get() is not None:
            await asyncio.sleep(0.005)
            taken += 1

    await asyncio.gather(produce(), consume())
    return taken


async def main() -> None:
    await with_handlers("What is in notes.txt?", show_text, show_progress)
    for event_type, data in (await dashboard("And again")).items():
        print(f"{event_type}: {len(data)}")
    print(f"the slow client got {await slow_client('Slowly')} events")
    try:
        async with asyncio.timeout(0):
            await with_handlers("Too late")
    except TimeoutError:
        print("timed out")


asyncio.run(main())
