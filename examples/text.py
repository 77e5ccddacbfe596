"""Streamed text, accumulated and as deltas. `MODEL=openai:gpt-5-mini python examples/text.py` uses a real model."""

import asyncio
import os

from pydantic_ai import Agent

from sidestream import Sidecar

agent = Agent(os.environ.get("MODEL", "test"), name="writer")


async def main() -> None:
    async with agent.run_stream("Tell me about the history of AI") as result:
        async for text in result.stream_text(debounce_by=None):
            print(text, end="\r", flush=True)  # accumulated text
    print()
    async with agent.run_stream("And now in one sentence") as result:
        async for delta in result.stream_text(delta=True):
            print(delta, end="", flush=True)  # new text only
    print()


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
