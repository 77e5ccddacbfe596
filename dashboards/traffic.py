"""Traffic for the boards: the demo's scenes in a loop, with additional failures, so that every panel has data.

python -m dashboards.traffic prometheus:0.0.0.0:9464 otlp jsonl:/logs/

As in the demo, the models are served by a local server, and no data leaves the machine.
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
"""Sidecar setting `stall_seconds`, below the pauses of the slow server, so that stalls are counted."""


def _dispatcher_answer(messages: Sequence[Message]) -> Reply:
    """Replies of a model that calls a failing tool, a tool with invalid arguments, and an unknown tool."""
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
    """Run every scene `rounds` times, or forever.

    Args:
        sidecar: Sidecar that observes the agents, with a small `stall_seconds` (see `STALL_SECONDS`).
        speed: Speed factor; 1 is a human pace.
        rounds: Number of rounds; None for no end.
    """
    async with AsyncExitStack() as stack:

        async def model(name: str, server: ModelServer) -> Model:
            running = await stack.enter_async_context(server)
            http = await stack.enter_async_context(DefaultAsyncHttpxClient(trust_env=False))
            client = AsyncOpenAI(base_url=running.base_url, api_key="demo", max_retries=0, http_client=http)
            return OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))

        known = await model("gpt-5-mini", ModelServer(answer, speed=speed))
        # A model without a known price, whose pauses count as stalls.
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
            # Exceptions are expected: some scenes fail on purpose, and only the sidecar's metrics matter here.
            with sidecar.tags(tenant=f"tenant-{done % 3}"):
                await asyncio.gather(*plays, return_exceptions=True)
            done += 1
            await asyncio.sleep(random.uniform(0.5, 4) / speed)


async def _stream(agent: Agent[None, str]) -> None:
    async with agent.run_stream_events("Where is my parcel?") as events:
        async for _ in events:
            await asyncio.sleep(0.001)  # a consumer that takes time for each event


async def _ask(agent: Agent[None, str]) -> None:
    await agent.run("Where is my parcel?")


async def _talk(agent: Agent[Shop, str]) -> None:
    """Hold a conversation of three turns: with a tool, with two tools and a sub-agent, and without tools."""
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
    """Run the traffic until Ctrl-C."""
    pydantic_ai.BANNER_ENABLED = False
    with Sidecar(*exporters, stall_seconds=STALL_SECONDS) as sidecar:
        try:
            asyncio.run(make_traffic(sidecar))
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main(sys.argv[1:] or ["prometheus:9464?label_tags=tenant"])
