"""Partial validation of a structured output: fields appear while they stream, constraints apply at the end.

A partial output is validated leniently. A `TypedDict` leaves missing fields out; a model needs defaults for them. A
constraint that a partial value violates (`bio` of at least 20 characters) is enforced for the final output only.
"""

import asyncio
from typing import Annotated

from offline import model
from pydantic import Field
from pydantic_ai import Agent
from typing_extensions import TypedDict

from sidestream import Sidecar


class Profile(TypedDict, total=False):
    name: str
    age: int
    bio: Annotated[str, Field(min_length=20)]


JOHN = {"name": "John", "age": 30, "bio": "A developer from New York who likes streams."}

agent = Agent(model(JOHN), name="profiler", output_type=Profile)


async def main() -> None:
    async with agent.run_stream("Create a profile for John, 30, a developer from NYC") as result:
        async for partial in result.stream_output(debounce_by=None):
            print(f"so far: {', '.join(partial)}")
        print(await result.get_output())


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
