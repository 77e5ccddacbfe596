"""Provider failure in the middle of a stream: the program keeps the partial text, and the log has the failed run."""

import asyncio
from collections.abc import AsyncIterator

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sidestream import Sidecar


async def failing(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    yield "Machine learning is "
    yield "the study of "
    raise ConnectionError("the provider hung up")


agent = Agent(FunctionModel(stream_function=failing), name="teacher")


async def main() -> None:
    partial = ""
    async with agent.run_stream("Explain machine learning") as result:
        try:
            async for delta in result.stream_text(delta=True, debounce_by=None):
                partial += delta
        except ConnectionError as error:
            print(f"interrupted: {error}; so far: {partial!r}")


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
