"""A shop that never closes: the demo's scenes over and over, and some trouble beside them, to fill every panel.

python -m dashboards.traffic prometheus:0.0.0.0:9464 otlp jsonl:/logs/

Like the demo it streams from a small server on this machine, and nothing leaves it.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pydantic_ai
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.models import Model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from sidestream import Sidecar
from sidestream.demo.agent import Shop, support_agents
from sidestream.demo.main import SCENES
from sidestream.demo.reply import Message, Reply
from sidestream.demo.script import answer
from sidestream.demo.server import ModelServer

STALL_SECONDS = 0.6
"""The sidecar's: the pauses of the second server are longer, at a human pace."""


def _dispatcher_answer(messages: Sequence[Message]) -> Reply:
    """The words of a dispatcher that tries a broken tool, one with wrong arguments and one that does not exist."""
    turn = sum(message.get("role") == "assistant" for message in messages)
    parcel = {"parcel": "JJD-0141"}
    replies = (
        Reply(calls=[("track_parcel", parcel), ("call_courier", {"parcel": "JJD-0141"})], reasoning_tokens=32),
        Reply(calls=[("track_parcel", {"packet": 1}), ("teleport_parcel", parcel)]),
        Reply(text="It is on its way, and I shall be, too.", reasoning_tokens=16),
    )
    return replies[min(turn, len(replies) - 1)]


def _unlucky_answer(messages: Sequence[Message]) -> Reply:
    return Reply(failure="status")


def dispatcher_agent(model: Model) -> Agent[None, str]:
    dispatcher = Agent(model, name="dispatcher", retries=3, instructions="You find out where parcels are.")

    @dispatcher.tool_plain
    async def track_parcel(parcel: str) -> str:
        await asyncio.sleep(random.uniform(0.0, 0.02))
        return f"{parcel} was seen in Linz this morning."

    @dispatcher.tool_plain
    def call_courier(parcel: str) -> str:
        raise ModelRetry("Nobody answers. Try again.")

    return dispatcher


def porter_agent(model: Model) -> Agent[None, str]:
    porter = Agent(model, name="porter", instructions="You carry parcels.")

    @porter.tool_plain
    def track_parcel(parcel: str) -> str:
        raise ConnectionError("the courier's service is down")

    @porter.tool_plain
    def call_courier(parcel: str) -> str:
        return "On the way."

    return porter


async def make_traffic(sidecar: Sidecar, *, speed: float = 1.0, rounds: int | None = None) -> None:
    """Run every scene `rounds` times, or for ever.

    Args:
        sidecar: Observes what happens. Its `stall_seconds` should be small: see `STALL_SECONDS`.
        speed: How much faster than a person.
        rounds: None for ever.
    """
    async with AsyncExitStack() as stack:

        async def model(name: str, server: ModelServer) -> Model:
            running = await stack.enter_async_context(server)
            http = await stack.enter_async_context(DefaultAsyncHttpxClient(trust_env=False))
            client = AsyncOpenAI(base_url=running.base_url, api_key="demo", max_retries=0, http_client=http)
            return OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))

        known = await model("gpt-5-mini", ModelServer(answer, speed=speed))
        # A model without a known price, which pauses for longer than the sidecar finds acceptable.
        slow = await model("house-model", ModelServer(_dispatcher_answer, speed=speed, seconds_per_piece=0.2))
        down = await model("gpt-5", ModelServer(_unlucky_answer, speed=speed))
        support, billing = support_agents(known)
        dispatcher, porter = dispatcher_agent(FallbackModel(down, slow)), porter_agent(slow)
        for agent in (support, billing, dispatcher, porter):
            sidecar.observe(agent)
        done = 0
        while rounds is None or done < rounds:
            plays = [scene.play(support) for scene in SCENES]
            plays += [_stream(dispatcher), _stream(porter), _ask(porter), _judged(sidecar, support), _talk(support)]
            # What the callers get is what the scenes are about; here only what the sidecar saw of it matters.
            with sidecar.tags(tenant=f"tenant-{done % 3}"):
                await asyncio.gather(*plays, return_exceptions=True)
            done += 1
            await asyncio.sleep(random.uniform(0.5, 4) / speed)


async def _stream(agent: Agent[None, str]) -> None:
    async with agent.run_stream_events("Where is my parcel?") as events:
        async for _ in events:
            await asyncio.sleep(0.001)  # a consumer that does something with what it gets


async def _ask(agent: Agent[None, str]) -> None:
    await agent.run("Where is my parcel?")


async def _talk(agent: Agent[Shop, str]) -> None:
    """A conversation of three turns: a tool, two tools and a sub-agent, neither."""
    conversation, history = f"visitor-{random.randrange(10**6):06}", None
    for question in (
        "What became of my order PP-4712?",
        "Where is my order 4711, and can I send it back if the bag does not fit?",
        "Are you open on Saturdays?",
    ):
        result = await agent.run(question, deps=Shop(), message_history=history, conversation_id=conversation)
        history = result.all_messages()


async def _judged(sidecar: Sidecar, agent: Agent[Shop, str]) -> None:
    result = await agent.run("Are you open on Saturdays?", deps=Shop())
    sidecar.score(result.run_id, "helpful", random.uniform(0.5, 1))


def main(exporters: Sequence[str]) -> None:
    """Traffic until the process is ended."""
    pydantic_ai.BANNER_ENABLED = False
    with Sidecar(*exporters, stall_seconds=STALL_SECONDS) as sidecar:
        try:
            asyncio.run(make_traffic(sidecar))
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main(sys.argv[1:] or ["prometheus:9464?label_tags=tenant"])
