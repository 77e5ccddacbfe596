"""Summary of an article, shown while it streams; a partial summary is kept if the provider fails in the middle."""

import asyncio
from typing import Literal

from offline import model
from pydantic import BaseModel
from pydantic_ai import Agent

from sidestream import Sidecar


class NewsSummary(BaseModel):
    title: str = ""
    key_points: list[str] = []
    sentiment: Literal["good", "neutral", "bad"] = "neutral"
    category: str = ""


SUMMARY = {
    "title": "Streams found in the Alps",
    "key_points": ["There are many.", "Most run downhill."],
    "sentiment": "good",
    "category": "nature",
}

agent = Agent(model(SUMMARY), name="news", output_type=NewsSummary)


@agent.tool_plain
async def fetch(url: str) -> str:
    """Fetch the text of an article."""
    await asyncio.sleep(0.01)
    return "Streams were found in the Alps. …"


async def summarise(url: str) -> NewsSummary:
    """Summary of the article at `url`; the last partial summary if the run fails."""
    latest = NewsSummary()
    try:
        async with agent.run_stream(f"Summarise {url}") as result:
            async for latest in result.stream_output(debounce_by=None):
                print(f"\r{latest.title or '…'}: {len(latest.key_points)} points", end="", flush=True)
    except Exception as error:
        print(f"\ninterrupted ({error}); what follows is partial")
    print()
    return latest


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    summary = asyncio.run(summarise("https://news.example/alps"))
    for point in summary.key_points:
        print(f"- {point}")
    print(f"{summary.category}, {summary.sentiment}")
