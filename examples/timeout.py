"""Timeout around a stream: the run is `timed_out` in the log, which has the text up to then."""

import asyncio
from collections.abc import AsyncIterator

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sidestream import Sidecar


async def endless(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    """Model that never stops generating."""
    while True:
        yield "and "
        await asyncio.sleep(0.01)


agent = Agent(FunctionModel(stream_function=endless), name="essayist")


async def main() -> None:
    try:
        async with asyncio.timeout(0.1):
            async with agent.run_stream("Write a long essay about philosophy") as result:
                async for delta in result.stream_text(delta=True, debounce_by=None):
                    print(delta, end="", flush=True)
    except TimeoutError:
        print("\ntimed out")


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
