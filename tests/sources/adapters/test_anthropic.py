"""The real Anthropic client, streaming over HTTP from a local server, tapped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidestream.testing.adapters import events_of, outline
from tests.support.provider_clients import adrain, answering, body_of, whole_answer
from tests.support.provider_server import Delivery
from tests.support.tapped_streams import Watching

anthropic = pytest.importorskip("anthropic")

MODEL = "claude-sonnet-4-6"
ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 99, "messages": [{"role": "user", "content": "?"}]}


def start(**usage: Any) -> dict[str, Any]:
    counts = {"input_tokens": 100, "output_tokens": 1, **usage}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [], "usage": counts}
    return {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None}}


def block(index: int, block: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(*pieces: str, index: int = 0) -> list[dict[str, Any]]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def over(reason: str = "end_turn", **usage: Any) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 20, **usage}},
        {"type": "message_stop"},
    ]


CACHE = {
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 50,
    "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
}
ANSWER = [
    start(**CACHE),
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Let me "},
        {"type": "thinking_delta", "thinking": "see."},
        {"type": "signature_delta", "signature": "x"},
    ),
    {"type": "ping"},
    *text("I will ", "look.", index=1),
    *block(
        2,
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"at": '},
        {"type": "input_json_delta", "partial_json": '"A-1"}'},
    ),
    *over("tool_use"),
]
BODY = body_of(ANSWER, named=True)


def client(url: str, **options: Any) -> Any:
    return anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, **options)


def async_client(url: str) -> Any:
    return anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0)


def check(watching: Watching) -> None:
    end = whole_answer(watching, MODEL, (1150, 20))
    assert end.usage is not None
    assert (end.usage.cache_read_tokens, end.usage.cache_write_tokens) == (1000, 50)
    assert end.usage.cache_write_1h_tokens == 30
    dollars = 100 * 3 + 1000 * 0.3 + 20 * 3.75 + 30 * 6 + 20 * 15  # hourly cache writes cost more
    assert end.cost_usd == pytest.approx(dollars / 1e6)
    assert (end.response_id, end.response_model) == ("msg_1", MODEL)


def test_raw_events(watching: Watching, url: str) -> None:
    with client(url) as each:
        items = list(watching.sidecar.tap(lambda: each.messages.create(**ASKED, stream=True)))
    assert [item.type for item in items][:2] == ["message_start", "content_block_start"]
    check(watching)


def test_raw_events_async(watching: Watching, url: str) -> None:
    async def main() -> list[Any]:
        async with async_client(url) as each:
            return await adrain(watching.sidecar.tap(each.messages.create(**ASKED, stream=True)))

    assert len(asyncio.run(main())) == len(ANSWER) - 1  # the client filters out pings
    check(watching)


READS = {
    "events": list,
    "text_stream": lambda stream: list(stream.text_stream),
    "get_final_message": lambda stream: stream.get_final_message(),
    "until_done": lambda stream: stream.until_done(),
}


@pytest.mark.parametrize("read", READS)
def test_the_stream_helper_whichever_of_its_methods_reads_it(watching: Watching, url: str, read: str) -> None:
    with client(url) as each, each.messages.stream(**ASKED) as bare:
        expected = READS[read](bare)
    with answering(BODY) as again, client(again) as each:
        with watching.sidecar.tap(each.messages.stream(**ASKED)) as stream:
            assert READS[read](stream) == expected
            assert stream.current_message_snapshot.stop_reason == "tool_use"
            assert stream.response.status_code == 200
    check(watching)


@pytest.mark.parametrize("read", ["events", "text_stream", "get_final_message"])
def test_the_async_stream_helper_too(watching: Watching, url: str, read: str) -> None:
    async def main() -> Any:
        async with async_client(url) as each, watching.sidecar.tap(each.messages.stream(**ASKED)) as stream:
            match read:
                case "events":
                    return len(await adrain(stream))
                case "text_stream":
                    return "".join(await adrain(stream.text_stream))
            return (await stream.get_final_message()).content[1].text

    expected = {"events": None, "text_stream": "I will look.", "get_final_message": "I will look."}[read]
    assert asyncio.run(main()) == expected or expected is None
    check(watching)


@pytest.mark.parametrize("helper", [False, True])
def test_leaving_early_is_abandoned_and_what_was_used_is_a_lower_bound(watching: Watching, helper: bool) -> None:
    async def main(url: str) -> None:
        async with async_client(url) as each:
            made = each.messages.stream(**ASKED) if helper else each.messages.create(**ASKED, stream=True)
            async with watching.sidecar.tap(made) as stream:
                await adrain(stream, lambda event: event.type == "content_block_stop" and event.index == 0)
            assert watching.outcome() == "abandoned"  # before any garbage collection

    with answering(BODY, Delivery(hold_after=7)) as url:
        asyncio.run(main(url))
    end = watching.answer()
    assert (end.outcome, end.usage_source, watching.text_of("thinking")) == ("interrupted", "partial", "Let me see.")
    assert end.usage is not None
    assert end.usage.input_tokens == 1150


def test_an_error_within_the_stream_is_raised_as_ever_and_is_the_models(watching: Watching) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    body = body_of([start(), *text("I will ")[:-1], error], named=True)
    with answering(body) as url, client(url) as each, pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        list(watching.sidecar.tap(lambda: each.messages.create(**ASKED, stream=True)))
    assert (watching.outcome(), watching.text()) == ("error", "I will ")
    assert (watching.answer().outcome, watching.answer().usage_source) == ("error", "partial")


def test_a_stream_that_is_cut_off_in_good_order_is_not_a_whole_answer(watching: Watching) -> None:
    with answering(body_of([start(), *text("I will ")], named=True)) as url, client(url) as each:
        list(watching.sidecar.tap(lambda: each.messages.create(**ASKED, stream=True)))
    assert (watching.outcome(), watching.answer().exception_type) == ("error", "IncompleteStream")


def test_a_request_that_is_refused_is_an_error_of_the_model(watching: Watching) -> None:
    with client("http://127.0.0.1:9", timeout=5) as each, pytest.raises(anthropic.APIConnectionError):
        list(watching.sidecar.tap(lambda: each.messages.create(**ASKED, stream=True), model=MODEL))
    assert (watching.outcome(), watching.answer().model, watching.answer().outcome) == ("error", MODEL, "error")


SEARCH = [
    *block(
        0,
        {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"query": "x"}'},
    ),
    *block(1, {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [{"type": "web_search_result"}]}),
]
FAILED = {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}


def table() -> list[Any]:
    hidden = block(0, {"type": "redacted_thinking", "data": "x"})
    compact = block(0, {"type": "compaction"}, {"type": "compaction_delta", "content": "so far"})
    passes = [{"type": "compaction", "input_tokens": 7, "output_tokens": 3}, {"type": "message", "input_tokens": 9}]
    failed = block(1, {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": FAILED})
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    return [
        pytest.param(
            [start(), *SEARCH, *text("found", index=2), *over(server_tool_use={"web_search_requests": 1})],
            [("tool", "web_search", '{"query": "x"}'), ("tool ends", "web_search", "ok"), ("text", "found")],
            ("ok", "stop", (100, 20)),
            id="a tool that the provider executes",
        ),
        pytest.param(
            [start(), *SEARCH[:3], *failed, *over()],
            [("tool", "web_search", '{"query": "x"}'), ("tool ends", "web_search", "failed")],
            ("ok", "stop", (100, 20)),
            id="one that fails",
        ),
        pytest.param([start(), *hidden, *over()], [("thinking", "")], ("ok", "stop", (100, 20)), id="hidden thinking"),
        pytest.param(
            [start(), *compact, *over(iterations=passes)],
            [("other", "compaction")],
            ("ok", "stop", (107, 23)),
            id="compaction is billed too",
        ),
        pytest.param([start(), *over("max_tokens")], [], ("ok", "length", (100, 20)), id="at its limit"),
        pytest.param([start(), *over("pause_turn")], [], ("ok", "pause_turn", (100, 20)), id="a word of its own"),
        pytest.param(
            [start(), *text("a"), error],
            [("text", "a"), ("error", "model", "overloaded_error")],
            ("error", None, (100, 1)),
            id="an error as an item",
        ),
    ]


@pytest.mark.parametrize(("items", "expected", "end"), table())
def test_items_in_events_out(items: list[Any], expected: list[Any], end: tuple[Any, ...]) -> None:
    """As dicts; the first item determines the adapter."""
    run = "completed" if end[0] == "ok" else "error"
    told = outline(events_of(items))
    assert told == [("request", MODEL), *expected, ("request ends", *end), ("run ends", run)]


def test_searches_are_counted_and_paid() -> None:
    events = events_of([start(), *SEARCH, *over(server_tool_use={"web_search_requests": 2})])
    (end,) = [event.data for event in events if event.event_type == "llm_end"]
    assert end.usage.counts == {"web_searches": 2}
    assert end.cost_usd == pytest.approx((100 * 3 + 20 * 15) / 1e6 + 2 * 0.01)
