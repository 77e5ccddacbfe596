"""Concurrent runs on a pool of agents: each run has its own events and outcome in the log."""

import asyncio
import os

from pydantic_ai import Agent

from sidestream import Sidecar, log

pool = [Agent(os.environ.get("MODEL", "test"), name=f"pool-{number}") for number in range(3)]


async def answer(number: int) -> str:
    agent = pool[number % len(pool)]
    async with agent.run_stream(f"Question {number}") as result:
        return "".join([delta async for delta in result.stream_text(delta=True)])


async def main() -> None:
    answers = await asyncio.gather(*(answer(number) for number in range(9)))
    print(len(answers), "answers")


with Sidecar("jsonl:runs/") as sidecar:
    for agent in pool:
        sidecar.observe(agent)
    asyncio.run(main())

for run in log.runs("runs/"):
    print(run.agent_name, run.outcome)
