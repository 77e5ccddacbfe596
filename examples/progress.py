"""Progress display while an answer streams: a counter of characters."""

import asyncio

from offline import model
from pydantic_ai import Agent

from sidestream import Sidecar

agent = Agent(model("Quantum computers calculate with superpositions of states. " * 8), name="teacher")


async def main() -> None:
    print("Thinking …")
    characters = shown = 0
    async with agent.run_stream("Explain quantum computing in detail") as result:
        async for delta in result.stream_text(delta=True, debounce_by=None):
            characters += len(delta)
            if characters - shown >= 100:
                shown = characters
                print(f"[{characters} characters]")
    print(f"Done: {characters} characters, {result.usage.output_tokens} tokens")


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
