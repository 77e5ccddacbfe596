"""pydantic-ai without an agent: `pydantic_ai.direct`, embeddings and images are recorded once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic_ai import Embedder, direct
from pydantic_ai.direct import model_request, model_request_stream, model_request_stream_sync, model_request_sync
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.images import ImageGenerator
from pydantic_ai.images.test import TestImageGenerationModel
from pydantic_ai.messages import ModelMessage, ModelRequest
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.support.provider_server import Delivery, Exchange, replay
from tests.support.sdk_answers import MODELS, USED, refused, streamed, whole
from tests.support.sdk_observed import EVENTS, JSON, Installed

ASKED: list[ModelMessage] = [ModelRequest.user_text_prompt("Where is it?", instructions="Be short.")]
TOLD = [
    ("request", "gpt-5-mini"),
    ("text", "I will look."),
    ("tool_call", "look", '{"at": "A-1"}'),
    ("request ends", "ok", "tool_call", USED),
    ("run ends", "completed"),
]


def answering(streaming: bool, *deliveries: Delivery) -> Any:
    body = streamed("chat") if streaming else whole("chat")
    return replay([Exchange("POST", "http://x/", None, 200, EVENTS if streaming else JSON, body)], *deliveries)


def model(url: str) -> OpenAIChatModel:
    return OpenAIChatModel(MODELS["chat"], provider=OpenAIProvider(base_url=url, api_key="none"))


def check(installed: Installed, streaming: bool) -> None:
    assert installed.outlines() == [TOLD]
    [events] = installed.runs()
    assert (events[0].data.prompt, events[1].data.instructions) == ("Where is it?", "Be short.")
    [end] = [event.data for event in events if event.event_type == "llm_end"]
    assert (end.streaming, end.usage.cache_read_tokens) == (streaming, 400)
    assert end.cost_usd == pytest.approx((600 * 0.25 + 400 * 0.025 + 20 * 2) / 1e6)
    assert (end.time_to_first_token_seconds is not None) == streaming


def test_a_request(installed: Installed) -> None:
    with answering(False) as server:
        response = asyncio.run(model_request(model(server.url), ASKED))
    assert response.usage.input_tokens == 1000
    check(installed, False)


def test_a_request_from_plain_code(installed: Installed) -> None:
    with answering(False) as server:
        model_request_sync(model(server.url), ASKED)
    check(installed, False)


@pytest.mark.parametrize("settings", [None, {"request_timeout": 30.0}])
def test_a_stream(installed: Installed, settings: Any) -> None:
    async def main(url: str) -> None:
        async with model_request_stream(model(url), ASKED, model_settings=settings) as stream:
            assert len([event async for event in stream]) > 3
            assert stream.usage.input_tokens == 1000

    with answering(True) as server:
        asyncio.run(main(server.url))
    check(installed, True)


def test_a_stream_in_plain_code(installed: Installed) -> None:
    with answering(True) as server, model_request_stream_sync(model(server.url), ASKED) as stream:
        assert len(list(stream)) > 3
    check(installed, True)


def test_a_stream_that_is_left(installed: Installed) -> None:
    async def main(url: str) -> None:
        async with model_request_stream(model(url), ASKED) as stream:
            async for _ in stream:
                break

    with answering(True) as server:
        asyncio.run(main(server.url))
    [(*_, end, over)] = installed.outlines()
    assert (end[1], over) == ("interrupted", ("run ends", "abandoned"))


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_stream_that_breaks(installed: Installed, swallowed: bool) -> None:
    async def main(url: str) -> None:
        async with model_request_stream(model(url), ASKED) as stream:
            try:
                async for _ in stream:
                    pass
            except Exception:
                if not swallowed:
                    raise

    with answering(True, Delivery(cut_after=len(streamed("chat")) // 2)) as server:
        if swallowed:
            asyncio.run(main(server.url))
        else:
            with pytest.raises(ModelAPIError):
                asyncio.run(main(server.url))
    [(*_, end, over)] = installed.outlines()
    assert (end[1], over) == ("error", ("run ends", "error"))


def test_a_refusal(installed: Installed) -> None:
    with replay([Exchange("POST", "http://x/", None, 400, JSON, refused("chat"))]) as server:
        with pytest.raises(ModelHTTPError):
            asyncio.run(model_request(model(server.url), ASKED))
    [told] = installed.outlines()
    assert told[-1] == ("run ends", "error")


def test_the_model_of_the_caller_is_the_callers(installed: Installed) -> None:
    """The observing wrapper exists within the call only."""
    own = TestModel()
    asyncio.run(model_request(own, ASKED))
    assert own.last_model_request_parameters is not None
    assert [told[0] for told in installed.outlines()] == [("request", "test")]


def test_embeddings(installed: Installed) -> None:
    answer = {"object": "list", "model": "text-embedding-3-small", "usage": {"prompt_tokens": 500, "total_tokens": 500}}
    body = json.dumps({**answer, "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}).encode()
    with replay([Exchange("POST", "http://x/", None, 200, JSON, body)]) as server:
        provider = OpenAIProvider(base_url=server.url, api_key="none")
        embedder = Embedder(OpenAIEmbeddingModel("text-embedding-3-small", provider=provider))
        result = embedder.embed_query_sync("Where is it?")
    assert list(result.embeddings) == [[0.5]]
    assert installed.outlines() == [
        [
            ("request", "text-embedding-3-small"),
            ("request ends", "ok", "stop", (500, 0)),
            ("run ends", "completed"),
        ]
    ]
    assert installed.memory.events[-1].data.cost_usd == pytest.approx(500 * 0.02 / 1e6)


def test_images(installed: Installed) -> None:
    ImageGenerator(TestImageGenerationModel()).generate_sync("A fox.")
    [events] = installed.runs()
    assert (events[0].data.prompt, events[-1].data.outcome) == ("A fox.", "completed")


def test_it_is_undone() -> None:
    import sidestream

    before = direct._prepare_model, Embedder.embed, ImageGenerator.generate
    sidestream.install("memory")
    assert direct._prepare_model is not before[0]
    sidestream.uninstall()
    assert (direct._prepare_model, Embedder.embed, ImageGenerator.generate) == before
