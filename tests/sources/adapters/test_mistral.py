"""The real Mistral client, streaming over HTTP from a local server, tapped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidestream.testing.adapters import events_of, outline
from tests.support.provider_clients import adrain, answering, body_of, outline_of, whole_answer
from tests.support.provider_server import Delivery
from tests.support.tapped_streams import Watching

mistral = pytest.importorskip("mistralai.client")

MODEL = "magistral-small-latest"
ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "?"}]}


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "m-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice], **more}


def thinking(text: str) -> dict[str, Any]:
    return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}


CALL = {"id": "c1", "index": 0, "function": {"name": "look", "arguments": '{"at": "A-1"}'}}
ANSWER = [
    chunk({"role": "assistant", "content": ""}),
    chunk(thinking("Let me ")),
    chunk(thinking("see.")),
    chunk({"content": [{"type": "text", "text": "I will "}]}),
    chunk({"content": "look."}),
    chunk({"content": "", "tool_calls": [CALL]}, "tool_calls", usage={"prompt_tokens": 100, "completion_tokens": 20}),
]
BODY = body_of(ANSWER, done=True)


def client(url: str) -> Any:
    return mistral.Mistral(api_key="none", server_url=url)


def check(watching: Watching) -> None:
    end = whole_answer(watching, MODEL, (100, 20))
    assert (end.provider, end.response_id, end.raw_finish_reason) == ("mistral", "m-1", "tool_calls")
    assert end.cost_source == "genai-prices"


def test_events(watching: Watching, url: str) -> None:
    with client(url) as each, watching.sidecar.tap(lambda: each.chat.stream(**ASKED)) as stream:
        assert len(list(stream)) == len(ANSWER)
        assert stream.response.status_code == 200
    check(watching)


def test_events_async(watching: Watching, url: str) -> None:
    async def main() -> list[Any]:
        async with client(url) as each, watching.sidecar.tap(each.chat.stream_async(**ASKED)) as stream:
            return await adrain(stream)

    assert len(asyncio.run(main())) == len(ANSWER)
    check(watching)


def test_leaving_early_is_abandoned(watching: Watching) -> None:
    async def main(url: str) -> None:
        async with client(url) as each:
            async with watching.sidecar.tap(each.chat.stream_async(**ASKED)) as stream:
                await adrain(stream, lambda event: isinstance(event.data.choices[0].delta.content, list))
            assert watching.outcome() == "abandoned"

    with answering(body_of(ANSWER), Delivery(hold_after=3)) as url:
        asyncio.run(main(url))
    assert (watching.answer().outcome, watching.text_of("thinking")) == ("interrupted", "Let me ")


def test_a_stream_that_is_cut_off_in_good_order_is_not_a_whole_answer(watching: Watching) -> None:
    with answering(body_of(ANSWER[:4])) as url, client(url) as each:
        list(watching.sidecar.tap(lambda: each.chat.stream(**ASKED)))
    assert (watching.outcome(), watching.answer().exception_type) == ("error", "IncompleteStream")


def test_the_answer_as_server_sent_events() -> None:
    assert outline(events_of([BODY])) == outline_of(MODEL, (100, 20))
