"""The real OpenAI client, streaming responses over HTTP from a local server, tapped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidestream.testing.adapters import events_of, outline
from tests.support.provider_clients import adrain, answering, body_of, whole_answer
from tests.support.provider_server import Delivery
from tests.support.sdk_answers import MODELS, response
from tests.support.tapped_streams import Watching

openai = pytest.importorskip("openai")

MODEL = MODELS["responses"]
ASKED: dict[str, Any] = {"model": MODEL, "input": "?"}
USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 400},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 30},
    "total_tokens": 1050,
}


def numbered(*events: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def item(index: int, item: dict[str, Any], *deltas: dict[str, Any], **done: Any) -> list[dict[str, Any]]:
    return [
        {"type": "response.output_item.added", "output_index": index, "item": item},
        *({"output_index": index, "item_id": item["id"], **delta} for delta in deltas),
        {"type": "response.output_item.done", "output_index": index, "item": {**item, "status": "completed", **done}},
    ]


def text(index: int, *pieces: str) -> list[dict[str, Any]]:
    message = {"type": "message", "id": f"msg_{index}", "role": "assistant", "status": "in_progress", "content": []}
    place = {"content_index": 0, "logprobs": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    deltas = [{"type": "response.output_text.delta", "delta": piece, **place} for piece in pieces]
    whole = {"type": "output_text", "text": "".join(pieces), "annotations": []}
    return item(
        index,
        message,
        {"type": "response.content_part.added", "content_index": 0, "part": part},
        *deltas,
        {"type": "response.output_text.done", "text": "".join(pieces), **place},
        {"type": "response.content_part.done", "content_index": 0, "part": whole},
        content=[whole],
    )


BEGIN = [{"type": "response.created", "response": response()}, {"type": "response.in_progress", "response": response()}]
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "", "status": "x"}


def over(status: str = "completed", usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": response(status, usage=usage, **more)}


ANSWER = numbered(
    *BEGIN,
    *item(
        0,
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": "Let me "},
        {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": "see."},
    ),
    *text(1, "I will ", "look."),
    *item(
        2,
        CALL,
        {"type": "response.function_call_arguments.delta", "delta": '{"at": '},
        {"type": "response.function_call_arguments.delta", "delta": '"A-1"}'},
        {"type": "response.function_call_arguments.done", "arguments": '{"at": "A-1"}', "name": "look"},
        arguments='{"at": "A-1"}',
    ),
    over(),
)
BODY = body_of(ANSWER, named=True)


def client(url: str) -> Any:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def async_client(url: str) -> Any:
    return openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)


def check(watching: Watching) -> None:
    end = whole_answer(watching, MODEL, (1000, 50))
    assert end.usage is not None
    assert (end.usage.cache_read_tokens, end.usage.reasoning_tokens) == (400, 30)
    assert end.cost_usd == pytest.approx((600 * 0.25 + 400 * 0.025 + 50 * 2) / 1e6)
    assert (end.response_id, end.response_model) == ("resp_1", MODEL)


def test_raw_events(watching: Watching, url: str) -> None:
    with client(url) as each:
        items = list(watching.sidecar.tap(lambda: each.responses.create(**ASKED, stream=True)))
    assert [event.sequence_number for event in items] == list(range(len(ANSWER)))
    check(watching)


def test_raw_events_async(watching: Watching, url: str) -> None:
    async def main() -> list[Any]:
        async with async_client(url) as each:
            return await adrain(watching.sidecar.tap(each.responses.create(**ASKED, stream=True)))

    assert len(asyncio.run(main())) == len(ANSWER)
    check(watching)


@pytest.mark.parametrize("read", ["events", "final", "until_done"])
def test_the_stream_helper_whichever_of_its_methods_reads_it(watching: Watching, url: str, read: str) -> None:
    with client(url) as each, watching.sidecar.tap(each.responses.stream(**ASKED)) as stream:
        match read:
            case "events":
                assert len(list(stream)) >= len(ANSWER)
            case "final":
                assert stream.get_final_response().output_text == ""
            case "until_done":
                stream.until_done()
    check(watching)


def test_the_async_stream_helper_too(watching: Watching, url: str) -> None:
    async def main() -> Any:
        async with async_client(url) as each, watching.sidecar.tap(each.responses.stream(**ASKED)) as stream:
            return await stream.get_final_response()

    assert asyncio.run(main()).id == "resp_1"
    check(watching)


def test_leaving_early_is_abandoned(watching: Watching) -> None:
    async def main(url: str) -> None:
        async with async_client(url) as each:
            async with watching.sidecar.tap(each.responses.create(**ASKED, stream=True)) as stream:
                await adrain(stream, lambda event: event.type == "response.output_text.delta")
            assert watching.outcome() == "abandoned"

    with answering(BODY, Delivery(hold_after=9)) as url:
        asyncio.run(main(url))
    assert (watching.answer().outcome, watching.text_of("text")) == ("interrupted", "I will ")
    assert watching.answer().usage is None


def test_an_error_within_the_stream_is_raised_as_ever_and_is_the_models(watching: Watching) -> None:
    error = {"type": "error", "code": "server_error", "message": "it broke", "param": None}
    with answering(body_of(numbered(*BEGIN, *text(0, "a")[:3], error), named=True)) as url, client(url) as each:
        raised: BaseException | None = None
        try:
            list(watching.sidecar.tap(lambda: each.responses.create(**ASKED, stream=True)))
        except openai.APIError as error_of_the_client:
            raised = error_of_the_client
    assert raised is None or "it broke" in str(raised)
    assert (watching.outcome(), watching.answer().outcome, watching.text()) == ("error", "error", "a")


def test_a_stream_that_is_cut_off_in_good_order_is_not_a_whole_answer(watching: Watching) -> None:
    with answering(body_of(numbered(*BEGIN, *text(0, "a")), named=True)) as url, client(url) as each:
        list(watching.sidecar.tap(lambda: each.responses.create(**ASKED, stream=True)))
    assert (watching.outcome(), watching.answer().exception_type) == ("error", "IncompleteStream")


SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "in_progress"}
CODE = {"type": "code_interpreter_call", "id": "ci_1", "status": "in_progress", "code": "1 + 1"}
MCP = {"type": "mcp_call", "id": "mcp_1", "name": "roll", "server_label": "dice", "arguments": "{}", "status": "x"}


@pytest.mark.parametrize(
    ("items", "expected", "end"),
    [
        pytest.param(
            [*item(0, SEARCH, action={"type": "search", "query": "x"}), over()],
            [("tool", "web_search", None), ("tool ends", "web_search", "ok")],
            ("ok", "stop", (1000, 50)),
            id="a tool that the provider executes",
        ),
        pytest.param(
            [*item(0, CODE, outputs=[{"type": "logs", "logs": "2"}]), over()],
            [("tool", "code_interpreter", None), ("tool ends", "code_interpreter", "ok")],
            ("ok", "stop", (1000, 50)),
            id="code",
        ),
        pytest.param(
            [*item(0, MCP, status="failed", error="no dice"), over()],
            [("tool", "roll", "{}"), ("tool ends", "roll", "failed")],
            ("ok", "stop", (1000, 50)),
            id="a tool of a server that fails",
        ),
        pytest.param(
            [*item(0, {"type": "reasoning", "id": "rs", "summary": []}), over()],
            [("thinking", "")],
            ("ok", "stop", (1000, 50)),
            id="hidden thinking",
        ),
        pytest.param(
            [*text(0, "a"), over("incomplete", incomplete_details={"reason": "max_output_tokens"})],
            [("text", "a")],
            ("ok", "length", (1000, 50)),
            id="at its limit",
        ),
        pytest.param(
            [*text(0, "a"), over("failed", error={"code": "server_error", "message": "broke"})],
            [("text", "a"), ("error", "model", "server_error")],
            ("error", "error", (1000, 50)),
            id="failed",
        ),
        pytest.param([over(usage=None)], [], ("ok", "stop", None), id="usage that nobody tells"),
    ],
)
def test_items_in_events_out(items: list[Any], expected: list[Any], end: tuple[Any, ...]) -> None:
    """As dicts; the first item determines the adapter."""
    run = "completed" if end[0] == "ok" else "error"
    told = outline(events_of([*BEGIN, *items]))
    assert told == [("request", MODEL), *expected, ("request ends", *end), ("run ends", run)]
