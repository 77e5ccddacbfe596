"""A structured answer on the way: fields appear as they are written, and only the whole is checked in full.

A partial answer is validated leniently: what is missing is left out of a `TypedDict`, and must have a default in a
model. A constraint that a half-written value breaks (`bio` of at least 20 characters) fails only at the end.
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
