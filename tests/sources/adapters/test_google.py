"""The real Gemini client, streaming over HTTP from a local server, tapped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidestream.testing.adapters import events_of, outline
from tests.support.provider_clients import adrain, answering, body_of, whole_answer
from tests.support.provider_server import Delivery
from tests.support.tapped_streams import Watching

genai = pytest.importorskip("google.genai")

MODEL = "gemini-2.5-flash"
ASKED: dict[str, Any] = {"model": MODEL, "contents": "?"}


def chunk(*parts: dict[str, Any], finish: str | None = None, **usage: int) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    counts = {"promptTokenCount": 100, "totalTokenCount": 100, **usage}
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": MODEL, "responseId": "r-1"}


USAGE = {"candidatesTokenCount": 20, "thoughtsTokenCount": 30, "cachedContentTokenCount": 40}
ANSWER = [
    chunk({"text": "Let me ", "thought": True}),
    chunk({"text": "see.", "thought": True}),
    chunk({"text": "I will "}, candidatesTokenCount=2),
    chunk({"text": "look."}, {"functionCall": {"name": "look", "args": {"at": "A-1"}}}, finish="STOP", **USAGE),
]
BODY = body_of(ANSWER)


def client(url: str) -> Any:
    return genai.Client(api_key="none", http_options=genai.types.HttpOptions(base_url=url))


def check(watching: Watching) -> None:
    end = whole_answer(watching, MODEL, (100, 50))
    assert end.usage is not None
    assert (end.usage.cache_read_tokens, end.usage.reasoning_tokens) == (40, 30)
    assert end.cost_usd == pytest.approx((60 * 0.3 + 40 * 0.03 + 50 * 2.5) / 1e6)
    assert (end.response_id, end.response_model, end.start_unknown) == ("r-1", MODEL, None)


def test_responses(watching: Watching, url: str) -> None:
    with client(url) as each:
        items = list(watching.sidecar.tap(each.models.generate_content_stream(**ASKED)))
    assert all(isinstance(item, genai.types.GenerateContentResponse) for item in items)
    check(watching)


def test_responses_async(watching: Watching, url: str) -> None:
    async def main() -> list[Any]:
        each = client(url)
        return await adrain(watching.sidecar.tap(each.aio.models.generate_content_stream(**ASKED)))

    assert len(asyncio.run(main())) == len(ANSWER)
    check(watching)


def test_leaving_early_is_abandoned_and_what_was_used_is_a_lower_bound(watching: Watching) -> None:
    async def main(url: str) -> None:
        each = client(url)
        async with watching.sidecar.tap(each.aio.models.generate_content_stream(**ASKED)) as stream:
            await adrain(stream, lambda item: item.usage_metadata.candidates_token_count == 2)
        assert watching.outcome() == "abandoned"

    with answering(BODY, Delivery(hold_after=3)) as url:
        asyncio.run(main(url))
    usage = watching.answer().usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, watching.answer().usage_source) == (100, 2, "partial")


def test_a_stream_that_is_cut_off_in_good_order_is_not_a_whole_answer(watching: Watching) -> None:
    with answering(body_of(ANSWER[:2])) as url, client(url) as each:
        list(watching.sidecar.tap(each.models.generate_content_stream(**ASKED)))
    assert (watching.outcome(), watching.answer().exception_type) == ("error", "IncompleteStream")


def test_a_request_that_fails_raises_as_ever(watching: Watching) -> None:
    with answering(b"") as url, client(url) as each:
        list(each.models.generate_content_stream(**ASKED))  # the only answer
        with pytest.raises(genai.errors.ClientError):
            list(watching.sidecar.tap(each.models.generate_content_stream(**ASKED), model=MODEL))
    assert watching.outcome() == "error"


CODE = {"executableCode": {"language": "PYTHON", "code": "1 + 1"}}


@pytest.mark.parametrize(
    ("items", "expected", "end"),
    [
        pytest.param(
            [
                chunk(CODE),
                chunk({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}}),
                chunk(finish="STOP"),
            ],
            [("tool", "code_execution", CODE["executableCode"]), ("tool ends", "code_execution", "ok")],
            ("ok", "stop", (100, 0)),
            id="code that the provider executes",
        ),
        pytest.param(
            [chunk(CODE, {"codeExecutionResult": {"outcome": "OUTCOME_FAILED"}}, finish="STOP")],
            [("tool", "code_execution", CODE["executableCode"]), ("tool ends", "code_execution", "failed")],
            ("ok", "stop", (100, 0)),
            id="code that fails",
        ),
        pytest.param(
            [chunk({"functionCall": {"name": "f", "args": {}}}, {"functionCall": {"name": "f"}}, finish="STOP")],
            [("tool_call", "f", "{}"), ("tool_call", "f", "{}")],
            ("ok", "tool_call", (100, 0)),
            id="two calls alike",
        ),
        pytest.param(
            [chunk({"inlineData": {"mimeType": "image/png", "data": "eA=="}}, finish="STOP")],
            [("other", "image/png")],
            ("ok", "stop", (100, 0)),
            id="a picture is its type",
        ),
        pytest.param([chunk(finish="MAX_TOKENS")], [], ("ok", "length", (100, 0)), id="at its limit"),
        pytest.param([chunk(finish="SAFETY")], [], ("ok", "content_filter", (100, 0)), id="filtered"),
    ],
)
def test_items_in_events_out(items: list[Any], expected: list[Any], end: tuple[Any, ...]) -> None:
    """As dicts of the API, and as objects of the client; recognized from the first item."""
    objects = [genai.types.GenerateContentResponse.model_validate(item) for item in items]
    for each in (items, objects):
        told = outline(events_of(each))
        assert told == [("request", MODEL), *expected, ("request ends", *end), ("run ends", "completed")]
