"""Real clients of providers against a local server with scripted streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sidestream.events import LLMEnd
from sidestream.testing.adapters import outline
from tests.support.provider_server import Delivery, Exchange, replay
from tests.support.tapped_streams import Watching


def body_of(events: list[dict[str, Any]], *, named: bool = False, done: bool = False) -> bytes:
    """Server-sent events, each `named` by its type, with `[DONE]` at the end if `done`."""
    names = [f"event: {event['type']}\n" if named else "" for event in events]
    texts = [f"{name}data: {json.dumps(event)}\n\n" for name, event in zip(names, events, strict=True)]
    return "".join([*texts, "data: [DONE]\n\n" if done else ""]).encode()


@contextmanager
def answering(body: bytes, delivery: Delivery | None = None) -> Iterator[str]:
    """Server with `body` as its only answer; yields its URL."""
    headers = (("content-type", "text/event-stream"),)
    exchange = Exchange("POST", "http://x/", None, 200, headers, body)
    with replay([exchange], delivery or Delivery()) as server:
        yield server.url


async def adrain(stream: Any, leave: Callable[[Any], bool] = lambda item: False) -> list[Any]:
    """Items of an async stream, up to the first one for which `leave` is true."""
    items = []
    async for item in stream:
        items.append(item)
        if leave(item):
            break
    return items


def outline_of(model: str, usage: tuple[int, int]) -> list[tuple[Any, ...]]:
    """Outline of the answer streamed in each provider's test: thinking, text and a tool call."""
    return [
        ("request", model),
        ("thinking", "Let me see."),
        ("text", "I will look."),
        ("tool_call", "look", '{"at": "A-1"}'),
        ("request ends", "ok", "tool_call", usage),
        ("run ends", "completed"),
    ]


def whole_answer(watching: Watching, model: str, usage: tuple[int, int]) -> LLMEnd:
    """End of the only request. Asserts `outline_of`, and a time to first token for each kind."""
    assert outline(watching.events()) == outline_of(model, usage)
    end = watching.answer()
    assert set(end.time_to_first_token_seconds or {}) == {"thinking", "text", "tool_call"}
    return end
