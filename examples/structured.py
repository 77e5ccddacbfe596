"""Structured output, validated while it streams: the list grows as its items are completed."""

import asyncio
import os

from pydantic import BaseModel
from pydantic_ai import Agent

from sidestream import Sidecar


class Task(BaseModel):
    title: str
    priority: int = 3


agent = Agent(os.environ.get("MODEL", "test"), name="planner", output_type=list[Task])


async def main() -> None:
    async with agent.run_stream("Give me tasks for planning a wedding") as result:
        async for tasks in result.stream_output(debounce_by=None):
            print(f"{len(tasks)} so far")
        for task in await result.get_output():
            print(f"- {task.title} (priority {task.priority})")


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
