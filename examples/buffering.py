"""Text in larger pieces: debounced by pydantic-ai (`debounce_by`), or split into sentences by the program."""

import asyncio
import re
from collections.abc import AsyncIterator

from offline import model
from pydantic_ai import Agent

from sidestream import Sidecar

TEXT = "Streams come in small pieces. A page that repaints for each of them is slow. So gather a few! Is that all? Yes."

agent = Agent(model(TEXT, TEXT), name="writer")


async def sentences(deltas: AsyncIterator[str]) -> AsyncIterator[str]:
    """Complete sentences of `deltas`, each as soon as possible, and the remaining text at the end."""
    buffer = ""
    async for delta in deltas:
        buffer += delta
        while match := re.match(r"(.*?[.!?])\s+", buffer, re.DOTALL):
            yield match[1]
            buffer = buffer[match.end() :]
    if buffer:
        yield buffer


async def main() -> None:
    async with agent.run_stream("Write a paragraph about buffering") as result:
        updates = [text async for text in result.stream_text(debounce_by=0.02)]
        print(f"{len(updates)} updates of the page instead of {len(TEXT.split())}")
    async with agent.run_stream("Again, sentence by sentence") as result:
        async for sentence in sentences(result.stream_text(delta=True, debounce_by=None)):
            print(f"- {sentence}")


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
