"""The real OpenAI client, streaming over HTTP from a small server on this machine, tapped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.types import ModelPrice

from sidestream.demo.server import ModelServer, Reply
from sidestream.events import LLMEnd
from tests.support.tapped_streams import Watching

openai = pytest.importorskip("openai")

ASKED: dict[str, Any] = {
    "model": "gpt-5-mini",
    "messages": [{"role": "user", "content": "Where is it?"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}


@contextmanager
def serving(reply: Reply) -> Iterator[str]:
    """The server in a thread of its own; gives its base URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = ModelServer(lambda _: reply, speed=50)
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        yield server.base_url
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def ask(
    watching: Watching, reply: Reply, each: Callable[[Any], bool | None] = lambda _: None, **about: Any
) -> list[Any]:
    """The chunks that a consumer of the async client sees; `each` returns True to leave."""

    async def main(url: str) -> list[Any]:
        chunks = []
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(**ASKED)
            async with stream:
                async for chunk in watching.sidecar.tap(stream, **about):
                    chunks.append(chunk)
                    if each(chunk):
                        break
        return chunks

    with serving(reply) as url:
        return asyncio.run(main(url))


def answer(watching: Watching) -> LLMEnd:
    (end,) = watching.events("llm_end")
    data: LLMEnd = end.data
    return data


TOOLS = Reply(text="Let me look.", calls=[("look", {"at": "A-1"}), ("weigh", {"what": "A-1"})])


@pytest.mark.parametrize("adapter", ["openai-chat", None])
def test_an_answer_is_in_the_log_with_text_tool_calls_usage_and_cost(watching: Watching, adapter: str | None) -> None:
    chunks = ask(watching, TOOLS, agent_name="clerk", adapter=adapter, model="gpt-5-mini", provider="openai")
    assert all(isinstance(chunk, openai.types.chat.ChatCompletionChunk) for chunk in chunks)
    told = {(e.data.kind, e.data.tool_name): "" for e in watching.events("llm_chunk")}
    for event in watching.events("llm_chunk"):
        told[event.data.kind, event.data.tool_name] += event.data.text
    assert told == {
        ("text", None): "Let me look.",
        ("tool_call", "look"): '{"at": "A-1"}',
        ("tool_call", "weigh"): '{"what": "A-1"}',
    }
    (start,) = watching.events("llm_start")
    assert (start.data.model, start.data.provider, start.data.streaming) == ("gpt-5-mini", "openai", True)
    end, usage = answer(watching), chunks[-1].usage
    assert end.usage is not None
    assert (end.usage.input_tokens, end.usage.output_tokens) == (usage.prompt_tokens, usage.completion_tokens)
    assert (end.outcome, end.finish_reason, end.usage_source) == ("ok", "tool_calls", "provider")
    assert (end.response_id, end.response_model) == (chunks[0].id, "gpt-5-mini")
    assert end.cost_source == "genai-prices"
    assert end.cost_usd == pytest.approx((usage.prompt_tokens * 0.25 + usage.completion_tokens * 2) / 1e6)
    assert set(end.time_to_first_token_seconds or {}) == {"text", "tool_call"}
    assert watching.outcome() == "completed"


def test_the_plain_client_is_tapped_as_well(watching: Watching) -> None:
    with serving(Reply(text="One two three")) as url, openai.OpenAI(base_url=url, api_key="none") as client:
        with client.chat.completions.create(**ASKED) as stream:
            tapped = watching.sidecar.tap(stream)
            assert tapped.response is stream.response
            text = "".join(chunk.choices[0].delta.content or "" for chunk in tapped if chunk.choices)
    assert text == watching.text() == "One two three"
    assert watching.outcome() == "completed"


def test_a_consumer_that_leaves_in_mid_stream_has_abandoned_it(watching: Watching) -> None:
    ask(watching, Reply(text="a b c d e f"), lambda chunk: chunk.choices[0].delta.content == " c")
    assert (watching.outcome(), watching.text()) == ("abandoned", "a b c")
    assert (answer(watching).outcome, answer(watching).usage_source) == ("interrupted", "none")


def test_a_consumer_that_leaves_once_the_answer_is_complete_has_it_all(watching: Watching) -> None:
    """Many leave at the finish reason, before the usage comes."""
    ask(watching, Reply(text="a b"), lambda chunk: bool(chunk.choices and chunk.choices[0].finish_reason))
    assert (watching.outcome(), answer(watching).outcome) == ("completed", "ok")


@pytest.mark.parametrize("failure", ["error", "drop"])
def test_a_stream_that_breaks_raises_what_the_client_raises(watching: Watching, failure: Any) -> None:
    with pytest.raises(openai.APIError) as raised:
        ask(watching, Reply(text="a b c d", failure=failure))
    assert watching.outcome() == "error"
    (error,) = watching.events("error")
    kind = type(raised.value)
    assert error.data.exception_type == f"{kind.__module__}.{kind.__qualname__}"
    assert answer(watching).outcome == "error"


def test_dicts_are_read_as_the_objects_are(watching: Watching) -> None:
    chunks = ask(watching, TOOLS)
    for _ in watching.sidecar.tap([chunk.model_dump(exclude_unset=True) for chunk in chunks]):
        pass
    first, second = watching.memory.runs().values() if watching.events() else ()

    def said(events: list[Any]) -> Any:
        chunks = [event.data for event in events if event.event_type == "llm_chunk"]
        end = next(event.data for event in events if event.event_type == "llm_end")
        texts: dict[Any, str] = {}
        for chunk in chunks:
            texts[chunk.part, chunk.tool_name] = texts.get((chunk.part, chunk.tool_name), "") + chunk.text
        return texts, end.usage, end.cost_usd, end.finish_reason, end.chunks

    assert said(first) == said(second)


def test_reasoning_and_several_choices_are_parts_of_their_own(watching: Watching) -> None:
    def chunk(index: int, **delta: Any) -> dict[str, Any]:
        return {"object": "chat.completion.chunk", "choices": [{"index": index, "delta": delta}]}

    items = [chunk(0, reasoning_content="hm"), chunk(0, content="a"), chunk(1, content="x"), chunk(0, content="b")]
    assert list(watching.sidecar.tap(items)) == items
    assert [(e.data.part, e.data.kind, e.data.text) for e in watching.events("llm_chunk")] == [
        (0, "thinking", "hm"),
        (1, "text", "ab"),
        (2, "text", "x"),
    ]


def test_what_the_gateway_charged_wins_and_your_own_price_is_next() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 0}
    watching = Watching(prices={"mine": ModelPrice(input_mtok=Decimal(1))})
    with watching.sidecar as sidecar:
        for used, model in ((usage | {"cost": 0.25}, "mine"), (usage, "mine"), (usage, "nobody-knows")):
            item = {"object": "chat.completion.chunk", "model": model, "choices": [], "usage": used}
            assert list(sidecar.tap([item])) == [item]
        ends = [event.data for event in watching.events("llm_end")]
        assert [(end.cost_usd, end.cost_source) for end in ends] == [
            (0.25, "provider"),
            (pytest.approx(1e-5), "override"),
            (None, None),
        ]
        assert [end.unpriced for end in ends] == [None, None, True]
        assert sidecar.stats().unpriced_requests == 1


def test_an_error_object_in_the_stream_is_told(watching: Watching) -> None:
    item = {"object": "chat.completion.chunk", "choices": [], "error": {"message": "overloaded", "type": "server"}}
    assert list(watching.sidecar.tap([item])) == [item]
    (error,) = watching.events("error")
    assert (error.data.error, error.data.exception_type) == ("overloaded", "server")
    assert watching.outcome() == "error"
