"""Recording of each call exactly once: by an agent, a tapped stream, or another SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import openai
import pytest
from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.support.provider_server import Exchange, replay
from tests.support.sdk_answers import MODELS, streamed, whole
from tests.support.sdk_calls import ASKED
from tests.support.sdk_observed import EVENTS, JSON, Installed


def exchanges(api: str, streams: list[bool]) -> list[Exchange]:
    """Scripted answers, one after the other, streamed or not."""
    return [
        Exchange("POST", "http://x/", None, 200, EVENTS if each else JSON, streamed(api) if each else whole(api))
        for each in streams
    ]


def _chat(url: str) -> Model:
    return OpenAIChatModel(MODELS["chat"], provider=OpenAIProvider(base_url=url, api_key="none"))


def _responses(url: str) -> Model:
    return OpenAIResponsesModel(MODELS["responses"], provider=OpenAIProvider(base_url=url, api_key="none"))


def _messages(url: str) -> Model:
    return AnthropicModel(MODELS["messages"], provider=AnthropicProvider(base_url=url, api_key="none"))


class Own(OpenAIChatModel):
    """Model of the program that calls the SDK."""

    async def request(self, *args: Any, **kwargs: Any) -> Any:
        await self.client.chat.completions.create(model=MODELS["chat"], messages=ASKED)
        return await super().request(*args, **kwargs)


def _own(url: str) -> Model:
    return Own(MODELS["chat"], provider=OpenAIProvider(base_url=url, api_key="none"))


MODELS_OF_AGENTS: dict[str, Callable[[str], Model]] = {"chat": _chat, "responses": _responses, "messages": _messages}


async def _consume(agent: Agent, how: str) -> None:
    match how:
        case "run":
            await agent.run("?")
        case "run_stream_events":
            async with agent.run_stream_events("?") as events:
                async for _ in events:
                    pass
        case "run_stream":
            async with agent.run_stream("?") as result:
                async for _ in result.stream_text():
                    pass


@pytest.mark.parametrize("how", ["run", "run_stream_events"])
@pytest.mark.parametrize("api", MODELS_OF_AGENTS)
def test_an_agents_requests_are_the_agents(installed: Installed, api: str, how: str) -> None:
    """The program calls the SDK inside a tool: a run below the tool call."""
    streaming = how != "run" or api == "messages"  # pydantic-ai streams requests that may take long
    with replay(exchanges(api, [streaming])) as server, replay(exchanges("chat", [True])) as other:
        agent = Agent(MODELS_OF_AGENTS[api](server.url), name="outer", output_type=str)

        @agent.tool_plain
        async def look(at: str) -> str:
            client = openai.AsyncOpenAI(base_url=other.url, api_key="none", max_retries=0)
            asked: Any = {"model": MODELS["chat"], "messages": ASKED}
            return "".join(
                [
                    chunk.choices[0].delta.content or ""
                    async for chunk in await client.chat.completions.create(**asked, stream=True)
                    if chunk.choices
                ]
            )

        with suppress(Exception):  # the second request has no answer
            asyncio.run(_consume(agent, how))
    outer, inner = installed.runs()
    assert [event.agent_name for event in (outer[0], inner[0])] == ["outer", None]
    assert [row[0] for row in installed.outlines()[0]].count("request") == 2
    assert [row[0] for row in installed.outlines()[1]].count("request") == 1
    start = inner[0].data
    assert (start.parent_run_id, start.parent_tool_call_id) == (outer[0].run_id, "call_1")
    assert (outer[-1].data.sub_agents, outer[-1].data.usage_with_children.input_tokens) == (1, 2000)


@pytest.mark.parametrize("api", MODELS_OF_AGENTS)
def test_so_they_are_in_run_stream(installed: Installed, api: str) -> None:
    with replay(exchanges(api, [True])) as server:
        asyncio.run(_consume(Agent(MODELS_OF_AGENTS[api](server.url), name="outer"), "run_stream"))
    assert len(installed.runs()) == 1
    assert [row[0] for row in installed.outlines()[0]].count("request") == 1


def test_a_model_of_the_programs_own_is_the_agents_too(installed: Installed) -> None:
    """All calls in a model's `request` belong to the agent's request."""
    with replay(exchanges("chat", [False, False])) as server:
        agent = Agent(_own(server.url), name="outer", tools=[])
        with suppress(Exception):
            agent.run_sync("?")
    assert [events[0].agent_name for events in installed.runs()] == ["outer"]


def test_a_tapped_call_is_the_taps(installed: Installed) -> None:
    """Awaited, created or entered by the tap."""
    asked: Any = {"model": MODELS["chat"], "messages": ASKED}

    async def awaited(url: str) -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
            async for _ in installed.sidecar.tap(client.chat.completions.create(**asked, stream=True), agent_name="a"):
                pass
            async with installed.sidecar.tap(client.chat.completions.stream(**asked), agent_name="b") as stream:
                await stream.get_final_completion()

    with replay(exchanges("chat", [True, True, True])) as server:
        asyncio.run(awaited(server.url))
        with openai.OpenAI(base_url=server.url, api_key="none") as client:
            for _ in installed.sidecar.tap(
                lambda: client.chat.completions.create(**asked, stream=True), agent_name="c"
            ):
                pass
    assert [events[0].agent_name for events in installed.runs()] == ["a", "b", "c"]


def test_a_call_within_a_tapped_generator_is_a_run_below_it(installed: Installed) -> None:
    asked: Any = {"model": MODELS["chat"], "messages": ASKED}
    with replay(exchanges("chat", [True])) as server, openai.OpenAI(base_url=server.url, api_key="none") as client:

        def words() -> Any:
            for chunk in client.chat.completions.create(**asked, stream=True):
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

        assert "".join(installed.sidecar.tap(words, agent_name="writer")) == "I will look."
    writer, call = installed.runs()
    assert (call[0].data.parent_run_id, call[0].data.parent_link) == (writer[0].run_id, "stream")
    assert writer[-1].data.usage_with_children.input_tokens == 1000
