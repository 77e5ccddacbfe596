"""Dependencies: instructions that depend on the user of the run, and the tenant as a tag of the run."""

import asyncio
import os
from dataclasses import dataclass

from pydantic_ai import Agent, RunContext

from sidestream import Sidecar


@dataclass
class User:
    name: str
    tone: str


agent = Agent(os.environ.get("MODEL", "test"), name="assistant", deps_type=User)


@agent.instructions
def personal(ctx: RunContext[User]) -> str:
    return f"You talk with {ctx.deps.name}, in a {ctx.deps.tone} tone."


async def main() -> None:
    with sidecar.tags(tenant="acme"):
        async with agent.run_stream("Tell me about Python", deps=User("Ada", "friendly")) as result:
            async for delta in result.stream_text(delta=True):
                print(delta, end="", flush=True)
    print()


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
