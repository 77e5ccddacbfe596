"""The real OpenAI client, streaming over HTTP from a local server, tapped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from genai_prices.types import ModelPrice

from sidestream.demo.reply import Reply
from sidestream.demo.server import ModelServer
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
    """Server in a thread of its own; yields its base URL."""
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
    """Chunks received by a consumer of the async client; `each` returns True to leave."""

    async def main(url: str) -> list[Any]:
        chunks = []
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            async with watching.sidecar.tap(client.chat.completions.create(**ASKED), **about) as stream:
                async for chunk in stream:
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
    assert (end.outcome, end.finish_reason, end.usage_source) == ("ok", "tool_call", "provider")
    assert (end.response_id, end.response_model) == (chunks[0].id, "gpt-5-mini")
    assert end.cost_source == "genai-prices"
    assert end.cost_usd == pytest.approx((usage.prompt_tokens * 0.25 + usage.completion_tokens * 2) / 1e6)
    assert set(end.time_to_first_token_seconds or {}) == {"text", "tool_call"}
    assert end.start_unknown is None
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
    """Many consumers leave at the finish reason, before the usage arrives."""
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
    assert watching.events()
    first, second = watching.memory.runs().values()

    def said(events: list[Any]) -> Any:
        chunks = [event.data for event in events if event.event_type == "llm_chunk"]
        end = next(event.data for event in events if event.event_type == "llm_end")
        texts: dict[Any, str] = {}
        for chunk in chunks:
            texts[chunk.part, chunk.tool_name] = texts.get((chunk.part, chunk.tool_name), "") + chunk.text
        return texts, end.usage, end.cost_usd, end.finish_reason, end.chunks

    assert said(first) == said(second)


def test_reasoning_and_several_choices_are_parts_of_their_own(watching: Watching) -> None:
    def of(index: int, **delta: Any) -> dict[str, Any]:
        return {"object": "chat.completion.chunk", "choices": [{"index": index, "delta": delta}]}

    items = [of(0, reasoning_content="hm"), of(0, content="a"), of(1, content="x"), of(0, content="b")]
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
            item: dict[str, Any] = {"object": "chat.completion.chunk", "model": model, "choices": [], "usage": used}
            assert list(sidecar.tap([item])) == [item]
        ends = [event.data for event in watching.events("llm_end")]
        assert [(end.cost_usd, end.cost_source) for end in ends] == [
            (0.25, "provider"),
            (pytest.approx(1e-5), "override"),
            (None, None),
        ]
        assert [end.unpriced for end in ends] == [None, None, True]
        assert sidecar.stats().unpriced_requests == 1


# --- what gateways make of it --------------------------------------------------------------------------------------


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "model": "gpt-5-mini", "choices": [choice], **more}


def call(id: str | None, name: str | None, args: str, **index: int) -> dict[str, Any]:
    return {**index, "id": id, "type": "function", "function": {"name": name, "arguments": args}}


def pieces(watching: Watching) -> list[tuple[str, str | None, str | None, str]]:
    chunks = [event.data for event in watching.events("llm_chunk")]
    return [(chunk.kind, chunk.tool_name, chunk.tool_call_id, chunk.text) for chunk in chunks]


def read(watching: Watching, *items: Any, adapter: str | None = "openai-chat") -> None:
    assert list(watching.sidecar.tap(list(items), adapter=adapter)) == list(items)


def test_one_delta_may_hold_the_end_of_the_reasoning_and_the_beginning_of_the_answer(watching: Watching) -> None:
    read(watching, chunk({"reasoning_content": "Let me "}), chunk({"reasoning_content": "see.", "content": "Yes"}))
    assert pieces(watching) == [("thinking", None, None, "Let me see."), ("text", None, None, "Yes")]


PARALLEL = [("tool_call", "rain", "a", '{"in":"P"}'), ("tool_call", "time", "b", '{"at":"U"}')]


@pytest.mark.parametrize(
    "calls",
    [
        pytest.param(
            [[call("a", "rain", '{"in":"P"}', index=0)], [call("b", "time", '{"at":"U"}', index=0)]], id="0 and 0"
        ),
        pytest.param([[call("a", "rain", '{"in":"P"}')], [call("b", "time", '{"at":"U"}')]], id="no index"),
        pytest.param([[call("a", "rain", '{"in":"P"}'), call("b", "time", '{"at":"U"}')]], id="in one chunk"),
        pytest.param(
            [
                [call("a", "rain", "", index=0)],
                [call(None, None, '{"in":', index=0)],
                [call("b", "time", '{"at":', index=1)],
                [call(None, None, '"P"}', index=0), call(None, None, '"U"}', index=1)],
            ],
            id="as OpenAI does, side by side",
        ),
        pytest.param(
            [
                [call("a", "rain", '{"in":', index=0)],
                [call("a", "rain", '"P"}', index=0)],
                [call("b", "time", '{"at":"U"}', index=1)],
            ],
            id="names repeated with each piece",
        ),
    ],
)
def test_parallel_tool_calls_are_told_apart_by_id_as_well_as_by_index(watching: Watching, calls: Any) -> None:
    read(watching, *(chunk({"tool_calls": each}) for each in calls), chunk({}, "tool_calls"))
    whole: dict[Any, str] = {}
    for kind, name, id, text in pieces(watching):
        whole[kind, name, id] = whole.get((kind, name, id), "") + text
    assert [(*names, text) for names, text in whole.items()] == PARALLEL


def test_calls_without_ids_are_told_apart_by_their_names(watching: Watching) -> None:
    first, second = call("", "rain", '{"in":"P"}', index=0), call("", "rain", '{"in":"U"}', index=0)
    read(watching, chunk({"tool_calls": [first, second]}), chunk({}, "tool_calls"))
    assert [text for *_, text in pieces(watching)] == ['{"in":"P"}', '{"in":"U"}']


def test_a_first_chunk_that_says_nothing_does_not_hide_what_the_stream_is(watching: Watching) -> None:
    """Azure's first chunk has no choices, object or model, but the content filter results of the prompt."""
    empty = {"id": "", "object": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    used = {"prompt_tokens": 1000, "completion_tokens": 6}
    read(watching, empty, chunk({"content": "Hello"}), chunk({}, "stop", usage=used), adapter=None)
    assert (watching.text(), answer(watching).cost_usd is not None) == ("Hello", True)
    assert watching.events("custom") == []


@pytest.mark.parametrize(
    "zeros",
    [{"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}}],
)
def test_zeros_are_no_usage_and_wipe_none_that_was_known(watching: Watching, zeros: Any) -> None:
    read(watching, chunk({"content": "a"}), chunk({}, "stop", usage=zeros))
    assert (answer(watching).usage, answer(watching).usage_source, answer(watching).unpriced) == (None, "none", None)
    watching.memory.clear()
    read(watching, chunk({"content": "a"}, usage={"prompt_tokens": 5}), chunk({}, "stop", usage=zeros))
    usage = answer(watching).usage
    assert usage is not None
    assert usage.input_tokens == 5


ERROR = {"code": 502, "message": "the upstream is gone"}


@pytest.mark.parametrize(
    "item",
    [
        {"object": "chat.completion.chunk", "choices": [], "error": ERROR},
        {"choices": [], "error": ERROR},
        chunk({"content": ""}, "error"),
        chunk({"content": ""}, "error", error=ERROR),
        {"object": "chat.completion.chunk", "choices": [{"index": 0, "finish_reason": "error", "error": ERROR}]},
        SimpleNamespace(error=ERROR, choices=[SimpleNamespace(index=0, delta=None, finish_reason="error")]),
        SimpleNamespace(error=SimpleNamespace(message="the upstream is gone", code=502), choices=[]),
    ],
)
def test_an_error_within_the_stream_is_an_error_of_request_and_run(watching: Watching, item: Any) -> None:
    read(watching, chunk({"content": "a"}), item)
    assert (watching.outcome(), answer(watching).outcome) == ("error", "error")
    (error,) = watching.events("error")
    assert (error.data.where, error.data.request) == ("model", 1)


def test_a_stream_that_ends_without_a_finish_reason_is_not_a_whole_answer(watching: Watching) -> None:
    read(watching, chunk({"content": "The answer is"}, usage={"prompt_tokens": 7, "completion_tokens": 3}))
    assert (watching.outcome(), answer(watching).outcome, answer(watching).usage_source) == (
        "error",
        "error",
        "partial",
    )
    assert answer(watching).exception_type == "IncompleteStream"


def test_a_chunk_after_the_finish_reason_does_not_begin_the_answer_anew(watching: Watching) -> None:
    read(watching, chunk({"content": "a"}), chunk({}, "stop"), chunk({}, None, usage={"prompt_tokens": 7}))
    assert (watching.outcome(), answer(watching).usage_source) == ("completed", "provider")


def test_with_the_callers_own_key_the_price_stands_beside_a_charge_of_nothing(watching: Watching) -> None:
    used = {"prompt_tokens": 9, "cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.25}}
    read(watching, chunk({"content": "a"}, "stop", usage=used))
    assert (answer(watching).cost_usd, answer(watching).cost_source) == (0.25, "provider")


def test_the_model_is_the_one_that_answered_where_none_was_named(watching: Watching) -> None:
    read(watching, chunk({"content": "a"}, "stop"))
    (start,) = watching.events("llm_start")
    assert (start.data.model, answer(watching).model) == ("gpt-5-mini", "gpt-5-mini")


def test_the_clients_stream_helper_is_read_whichever_of_its_methods_reads_it(watching: Watching) -> None:
    async def main(url: str) -> Any:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            asked = {name: value for name, value in ASKED.items() if name != "stream"}
            async with watching.sidecar.tap(client.chat.completions.stream(**asked)) as stream:
                return await stream.get_final_completion()

    with serving(TOOLS) as url:
        completion = asyncio.run(main(url))
    assert completion.choices[0].message.content == watching.text_of("text") == "Let me look."
    assert (watching.outcome(), answer(watching).finish_reason) == ("completed", "tool_call")
    assert answer(watching).time_to_first_token_seconds is not None


def test_the_plain_stream_helper_is_read_as_well(watching: Watching) -> None:
    asked = {name: value for name, value in ASKED.items() if name != "stream"}
    with serving(Reply(text="One two")) as url, openai.OpenAI(base_url=url, api_key="none") as client:
        with watching.sidecar.tap(client.chat.completions.stream(**asked)) as stream:
            events = [event.type for event in stream]
    assert "content.done" in events
    assert (watching.outcome(), watching.text()) == ("completed", "One two")
