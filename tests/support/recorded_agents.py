"""Agents that match the recordings, using the providers' own clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models import Model

Api: TypeAlias = Literal["openai-chat", "openai-responses", "anthropic", "google", "openrouter", "groq"]


@dataclass(frozen=True)
class RecordedAgent:
    """Agent that matches a recording."""

    recording: str
    api: Api
    model: str
    """Requested model name."""
    build: Callable[[Model], Agent[None, Any]]
    prompt: str | None = None
    """None: taken from the recording, because the prompt is long."""

    @property
    def provider(self) -> str:
        """Name of the provider in pydantic-ai."""
        return self.api.split("-")[0]

    def connect(self, url: str) -> AbstractAsyncContextManager[Agent[None, Any]]:
        """The agent with a client for the server at `url`."""
        return _connected(self, url)


@asynccontextmanager
async def _connected(recorded: RecordedAgent, url: str) -> AsyncIterator[Agent[None, Any]]:
    async with _MODELS[recorded.api](recorded.model, url) as model:
        yield recorded.build(model)


# --- real clients, without retries: the recording has no answers for them ---


@asynccontextmanager
async def _openai(url: str) -> AsyncIterator[Any]:
    from openai import AsyncOpenAI
    from pydantic_ai.providers.openai import OpenAIProvider

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield OpenAIProvider(openai_client=client)


@asynccontextmanager
async def _openai_chat(name: str, url: str) -> AsyncIterator[Model]:
    from pydantic_ai.models.openai import OpenAIChatModel

    async with _openai(url) as provider:
        yield OpenAIChatModel(name, provider=provider)


@asynccontextmanager
async def _openai_responses(name: str, url: str) -> AsyncIterator[Model]:
    from pydantic_ai.models.openai import OpenAIResponsesModel

    async with _openai(url) as provider:
        yield OpenAIResponsesModel(name, provider=provider)


@asynccontextmanager
async def _anthropic(name: str, url: str) -> AsyncIterator[Model]:
    from anthropic import AsyncAnthropic
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    async with AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))


@asynccontextmanager
async def _google(name: str, url: str) -> AsyncIterator[Model]:
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider

    async with GoogleProvider(api_key="none", base_url=url) as provider:
        yield GoogleModel(name, provider=provider)


@asynccontextmanager
async def _openrouter(name: str, url: str) -> AsyncIterator[Model]:
    from openai import AsyncOpenAI
    from pydantic_ai.models.openrouter import OpenRouterModel
    from pydantic_ai.providers.openrouter import OpenRouterProvider

    async with AsyncOpenAI(base_url=f"{url}/api/v1", api_key="none", max_retries=0) as client:
        yield OpenRouterModel(name, provider=OpenRouterProvider(openai_client=client))


@asynccontextmanager
async def _groq(name: str, url: str) -> AsyncIterator[Model]:
    from groq import AsyncGroq
    from pydantic_ai.models.groq import GroqModel
    from pydantic_ai.providers.groq import GroqProvider

    async with AsyncGroq(base_url=url, api_key="none", max_retries=0) as client:
        yield GroqModel(name, provider=GroqProvider(groq_client=client))


_MODELS: dict[Api, Callable[[str, str], AbstractAsyncContextManager[Model]]] = {
    "openai-chat": _openai_chat,
    "openai-responses": _openai_responses,
    "anthropic": _anthropic,
    "google": _google,
    "openrouter": _openrouter,
    "groq": _groq,
}


# --- the agents ------------------------------------------------------------------------------------------------------


def _plain(model: Model) -> Agent[None, Any]:
    return Agent(model, name="recorded")


def _asks_for_capital(capital: str) -> Callable[[Model], Agent[None, Any]]:
    def build(model: Model) -> Agent[None, Any]:
        agent: Agent[None, str] = Agent(model, name="recorded")

        @agent.tool_plain
        async def get_capital(country: str) -> str:
            return capital

        return agent

    return build


def _calculates(model: Model) -> Agent[None, Any]:
    from pydantic_ai.models.openai import OpenAIResponsesModelSettings

    class Output(BaseModel):
        result: int

    settings = OpenAIResponsesModelSettings(openai_reasoning_effort="low", openai_service_tier="flex")
    return Agent(model, name="recorded", output_type=Output, model_settings=settings)


def _thinks(model: Model) -> Agent[None, Any]:
    from pydantic_ai.models.anthropic import AnthropicModelSettings

    settings = AnthropicModelSettings(anthropic_thinking={"type": "enabled", "budget_tokens": 1024})
    return Agent(model, name="recorded", model_settings=settings)


def _compacts(model: Model) -> Agent[None, Any]:
    from pydantic_ai.models.anthropic import AnthropicCompaction, AnthropicModelSettings

    return Agent(
        model,
        name="recorded",
        instructions="You are a helpful assistant. Be very brief.",
        model_settings=AnthropicModelSettings(anthropic_cache=True),
        capabilities=[AnthropicCompaction(token_threshold=50_000)],
    )


def _asks_for_temperature(model: Model) -> Agent[None, Any]:
    agent: Agent[None, str] = Agent(model, name="recorded", instructions="You are a helpful chatbot.")

    @agent.tool_plain
    async def get_capital(country: str) -> str:
        """Get the capital of a country.

        Args:
            country: The country name.
        """
        return "Paris"

    @agent.tool_plain
    async def get_temperature(city: str) -> str:
        """Get the temperature in a city.

        Args:
            city: The city name.
        """
        return "30°C"

    return agent


def _asks_for_country(model: Model) -> Agent[None, Any]:
    agent: Agent[None, str] = Agent(model, name="recorded")

    @agent.tool_plain
    async def get_country() -> str:
        return "Mexico"

    return agent


def _reasons(model: Model) -> Agent[None, Any]:
    from pydantic_ai.models.openrouter import OpenRouterModelSettings

    return Agent(model, name="recorded", model_settings=OpenRouterModelSettings(openrouter_reasoning={"enabled": True}))


def _is_short(model: Model) -> Agent[None, Any]:
    return Agent(model, name="recorded", model_settings={"max_tokens": 10})


def _calls_wrongly(model: Model) -> Agent[None, Any]:
    agent: Agent[None, str] = Agent(
        model, name="recorded", instructions="Be concise. Never use pretty double quotes, just regular ones."
    )

    @agent.tool_plain
    async def get_something_by_name(name: str) -> str:
        return f"Something with name: {name}"

    return agent


RECORDED_AGENTS = [
    RecordedAgent("openai-agent-tools-stream", "openai-chat", "gpt-4o", _plain, "What is the capital of Mexico?"),
    RecordedAgent(
        "openai-chat-stream",
        "openai-chat",
        "gpt-4o-mini",
        _asks_for_capital("London"),
        "What is the capital of the UK? Use the tool, then answer.",
    ),
    RecordedAgent(
        "openai-responses-tool-stream",
        "openai-responses",
        "gpt-4o",
        _asks_for_capital("Paris"),
        "What is the capital of France?",
    ),
    RecordedAgent(
        "openai-responses-reasoning-usage-stream",
        "openai-responses",
        "gpt-5",
        _calculates,
        "Calculate 100 * 200 / 3",
    ),
    RecordedAgent(
        "anthropic-thinking-stream",
        "anthropic",
        "claude-sonnet-4-0",
        _thinks,
        "How do I cross the street?",
    ),
    RecordedAgent("anthropic-cache-usage-stream", "anthropic", "claude-sonnet-4-6", _compacts),
    RecordedAgent(
        "google-tools-stream",
        "google",
        "gemini-2.0-flash",
        _asks_for_temperature,
        "What is the temperature of the capital of France?",
    ),
    RecordedAgent(
        "google-thinking-tool-stream",
        "google",
        "gemini-3-pro-preview",
        _asks_for_country,
        "What is the capital of the user country? Call the tool",
    ),
    RecordedAgent(
        "openrouter-reasoning-stream",
        "openrouter",
        "anthropic/claude-sonnet-4.5",
        _reasons,
        "What is 2+2?",
    ),
    RecordedAgent(
        "openrouter-error-mid-stream",
        "openrouter",
        "minimax/minimax-m2:free",
        _is_short,
        "Hello there",
    ),
    RecordedAgent(
        "groq-tool-use-failed-stream",
        "groq",
        "openai/gpt-oss-120b",
        _calls_wrongly,
        'Please call the "get_something_by_name" tool with non-existent parameters to test error handling; '
        "on the second try you can use valid args",
    ),
]
BY_NAME = {recorded.recording: recorded for recorded in RECORDED_AGENTS}
