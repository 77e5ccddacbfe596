"""The real clients of providers, asking a server on this machine that streams what a test has written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.provider_server import Delivery, Exchange, replay
from tests.support.tapped_streams import Watching


def body_of(events: list[dict[str, Any]], *, named: bool = False, done: bool = False) -> bytes:
    """`events` as server-sent events, each `named` after its type, with `[DONE]` at the end if `done`."""
    names = [f"event: {event['type']}\n" if named else "" for event in events]
    texts = [f"{name}data: {json.dumps(event)}\n\n" for name, event in zip(names, events, strict=True)]
    return "".join([*texts, "data: [DONE]\n\n" if done else ""]).encode()


@contextmanager
def answering(body: bytes, delivery: Delivery | None = None) -> Iterator[str]:
    """A server whose one answer is `body`; gives its URL."""
    headers = (("content-type", "text/event-stream"),)
    exchange = Exchange("POST", "http://x/", None, 200, headers, body)
    with replay([exchange], delivery or Delivery()) as server:
        yield server.url


async def adrain(stream: Any, leave: Callable[[Any], bool] = lambda item: False) -> list[Any]:
    """The items of an async stream, up to the one at which `leave` is true."""
    items = []
    async for item in stream:
        items.append(item)
        if leave(item):
            break
    return items


def written(watching: Watching) -> list[tuple[Any, ...]]:
    """The outline of what the log holds; one run."""
    from sidestream.testing.adapters import outline

    return outline(watching.events())
