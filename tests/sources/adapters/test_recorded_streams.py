"""Recorded provider streams through their clients, tapped or observed: callers get the same, and the log is exact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from genai_prices import Usage, calc_price

import sidestream
from sidestream import Sidecar
from tests.support.provider_server import Exchange, ReadRecording, replay
from tests.support.provider_streams import Answer, read_answer
from tests.support.recorded_agents import RECORDED_AGENTS, RecordedAgent
from tests.support.recorded_run_log import LoggedRequest, requests_of
from tests.support.tapped_streams import Watching

pytestmark = pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")

QUESTION = [{"role": "user", "content": "?"}]


@asynccontextmanager
async def asking(recorded: RecordedAgent, url: str) -> AsyncIterator[Any]:
    """Source of the stream, made by the provider's own client."""
    chat: dict[str, Any] = {"model": recorded.model, "messages": QUESTION, "stream": True}
    match recorded.api:
        case "openai-chat" | "openrouter" | "openai-responses":
            openai = pytest.importorskip("openai")
            async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
                if recorded.api == "openai-responses":
                    yield lambda: client.responses.create(model=recorded.model, input="?", stream=True)
                else:
                    yield lambda: client.chat.completions.create(**chat)
        case "anthropic":
            anthropic = pytest.importorskip("anthropic")
            async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as client:
                yield lambda: client.messages.create(**chat, max_tokens=9)
        case "groq":
            groq = pytest.importorskip("groq")
            async with groq.AsyncGroq(base_url=url, api_key="none", max_retries=0) as client:
                yield lambda: client.chat.completions.create(**chat)
        case "google":
            genai = pytest.importorskip("google.genai")
            client = genai.Client(api_key="none", http_options=genai.types.HttpOptions(base_url=url))
            yield lambda: client.aio.models.generate_content_stream(model=recorded.model, contents="?")


@dataclass
class Seen:
    """View of the caller: classes and data of the items, and the exception."""

    items: list[tuple[type, Any]]
    raised: tuple[type, str] | None


async def consume(stream: Any) -> Seen:
    items: list[tuple[type, Any]] = []
    try:
        async for item in stream:
            items.append((type(item), item.model_dump()))
    except Exception as error:
        return Seen(items, (type(error), str(error)))
    return Seen(items, None)


def watch(recorded: RecordedAgent, exchange: Exchange, sidecar: Sidecar | None = None) -> Seen:
    """View of a caller, bare or with a tap of `sidecar`."""

    async def main() -> Seen:
        with replay([exchange]) as server:
            async with asking(recorded, server.url) as ask:
                if sidecar is None:
                    return await consume(await ask())
                return await consume(sidecar.tap(ask, model=recorded.model))

    return asyncio.run(main())


def watch_installed(recorded: RecordedAgent, exchange: Exchange, sidecar: Sidecar) -> Seen:
    """View of a caller with observed SDKs."""
    sidestream.install(sidecar=sidecar)
    try:
        return watch(recorded, exchange)
    finally:
        sidestream.uninstall()


@dataclass
class Case:
    recorded: RecordedAgent
    answer: Answer
    bare: Seen
    observed: Seen
    request: LoggedRequest
    outcome: str


@pytest.fixture(params=[watch, watch_installed], ids=["tapped", "installed"])
def how(request: pytest.FixtureRequest) -> Callable[[RecordedAgent, Exchange, Sidecar], Seen]:
    """Method of observation."""
    chosen: Callable[[RecordedAgent, Exchange, Sidecar], Seen] = request.param
    return chosen


@pytest.fixture(
    params=[(each, number) for each in RECORDED_AGENTS for number in range(3)],
    ids=lambda param: f"{param[0].recording}-{param[1] + 1}",
)
def case(request: pytest.FixtureRequest, recording: ReadRecording, watching: Watching, how: Any) -> Case:
    recorded, number = request.param
    exchanges = recording(recorded.recording)
    if number >= len(exchanges):
        pytest.skip("the recording has fewer exchanges")
    bare = watch(recorded, exchanges[number])
    observed = how(recorded, exchanges[number], watching.sidecar)
    (logged,) = requests_of(watching.events())
    answer = read_answer(recorded.api, exchanges[number].events)
    return Case(recorded, answer, bare, observed, logged, watching.outcome())


def test_a_recorded_stream(case: Case) -> None:
    """Items and exceptions are the same; texts, tool calls, usage, cost and outcome match the recording."""
    assert case.observed == case.bare
    answer, end = case.answer, case.request.end
    failed = answer.error is not None
    assert (case.outcome, end.outcome) == (("error", "error") if failed else ("completed", "ok"))

    def texts(parts: Any) -> list[tuple[Any, ...]]:
        return [(part.kind, part.tool_name, "".join(part.pieces)) for part in parts if part.pieces or part.tool_name]

    told = [part for part in answer.parts.values() if part.pieces or part.tool_name]
    said = [part for part in told if part is not answer.parts.get("failed")]
    assert sorted(texts(case.request.parts()), key=str) == sorted(texts(said), key=str)
    used = {name: end.usage[name] for name in end.usage} if end.usage is not None else {}
    if failed:  # the client raises the error, and hides the usage next to it
        assert end.usage_source == "none"
        return
    for name, count in answer.usage.items():
        assert used.get(name, 0) == count, name
    assert end.usage_source == ("provider" if any(answer.usage.values()) else "none")
    if answer.cost is not None:
        assert (end.cost_usd, end.cost_source) == (pytest.approx(float(answer.cost)), "provider")
    elif any(answer.usage.values()):
        counts = Usage(**{name: count for name, count in answer.usage.items() if name != "reasoning_tokens"})
        tier = {"service_tier": answer.service_tier} if answer.service_tier else None
        price = calc_price(counts, answer.model or "", provider_id=case.recorded.provider, price_context=tier)
        assert end.cost_usd == pytest.approx(float(price.total_price))
    assert end.finish_reason == ("tool_call" if _calls(case) else answer.finish_reason)
    assert (end.response_id, end.response_model) == (answer.response_id, answer.model)


def _calls(case: Case) -> bool:
    """Whether a tool is called; some APIs report the finish reason `stop` for tool calls."""
    return any(part.kind == "tool_call" for part in case.request.parts())
