"""Output of one of several types, chosen by the model and known to the type checker."""

import asyncio

from offline import model
from pydantic import BaseModel
from pydantic_ai import Agent

from sidestream import Sidecar


class Flight(BaseModel):
    number: str
    price_usd: float


class NothingFound(BaseModel):
    reason: str


agent: Agent[None, Flight | NothingFound] = Agent(
    model({"number": "XS 42", "price_usd": 199.0}, {"reason": "No flights to the moon."}),
    name="travel",
    output_type=[Flight, NothingFound],
)


async def main() -> None:
    for question in ("A flight from Bern to Oslo", "A flight from Bern to the moon"):
        async with agent.run_stream(question) as result:
            match await result.get_output():
                case Flight(number=number, price_usd=price):
                    print(f"{number} for ${price:.2f}")
                case NothingFound(reason=reason):
                    print(f"nothing: {reason}")


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
