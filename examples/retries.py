"""Retry of a whole run after a provider failure: each attempt is a run, and the log links the attempts."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sidestream import Sidecar, log

calls = count(1)


async def unreliable(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    yield "At the "
    if next(calls) < 3:
        raise ConnectionError("the provider hung up")
    yield "third attempt."


agent = Agent(FunctionModel(stream_function=unreliable), name="patient")
sidecar = Sidecar("jsonl:runs/")


async def with_retries(prompt: str, attempts: int = 3) -> str:
    with sidecar.attempts():
        for attempt in range(1, attempts + 1):
            try:
                async with agent.run_stream(prompt) as result:
                    return await result.get_output()
            except ConnectionError as error:
                if attempt == attempts:
                    raise
                print(f"attempt {attempt}: {error}")
                await asyncio.sleep(0.01)
    raise AssertionError("not reached")


with sidecar:
    sidecar.observe(agent)
    print(asyncio.run(with_retries("When does it work?")))

for run in log.runs("runs/"):
    print(f"try {run.attempt} of {str(run.attempt_of)[-4:]}: {run.outcome}")
