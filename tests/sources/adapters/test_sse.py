"""Server-sent events over HTTP without a provider's client, tapped."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestream.testing.adapters import events_of, outline
from tests.sources.adapters import test_anthropic, test_google, test_openai_responses
from tests.support.provider_clients import answering, body_of, outline_of
from tests.support.tapped_streams import Watching

httpx = pytest.importorskip("httpx")

CHAT: list[Any] = [
    {
        "object": "chat.completion.chunk",
        "model": "gpt-5-mini",
        "choices": [{"index": 0, "delta": {"content": "Grüße "}}],
    },
    {
        "object": "chat.completion.chunk",
        "model": "gpt-5-mini",
        "choices": [{"index": 0, "delta": {"content": "🙂"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    },
]
CHAT_OUTLINE = [
    ("request", "gpt-5-mini"),
    ("text", "Grüße 🙂"),
    ("request ends", "ok", "stop", (5, 2)),
    ("run ends", "completed"),
]
BODIES: dict[str, tuple[bytes, list[Any]]] = {
    "chat": (body_of(CHAT, done=True), CHAT_OUTLINE),
    "responses": (
        body_of(test_openai_responses.ANSWER, named=True),
        outline_of(test_openai_responses.MODEL, (1000, 50)),
    ),
    "anthropic": (test_anthropic.BODY, outline_of(test_anthropic.MODEL, (1150, 20))),
    "google": (test_google.BODY, outline_of(test_google.MODEL, (100, 50))),
}
bodies = pytest.mark.parametrize(("body", "expected"), BODIES.values(), ids=BODIES)


@bodies
@pytest.mark.parametrize("iterate", ["iter_bytes", "iter_text", "iter_lines", "iter_raw"])
def test_an_answer_over_http(watching: Watching, body: bytes, expected: list[Any], iterate: str) -> None:
    with answering(body) as url, httpx.Client(trust_env=False) as client:
        with client.stream("POST", url, json={}) as response:
            list(watching.sidecar.tap(getattr(response, iterate)()))
    assert outline(watching.events()) == expected


@bodies
@settings(max_examples=25, deadline=None)
@given(size=st.integers(3, 400))
def test_it_may_be_cut_anywhere(body: bytes, expected: list[Any], size: int) -> None:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    assert outline(events_of(pieces, adapter="sse")) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"\n", b"\r\n"),
        lambda body: b": a comment\n\nretry: 100\nid: 7\n" + body,
        lambda body: body.removesuffix(b"\n"),
        lambda body: body.replace(b"data: ", b"data:"),
    ],
    ids=["CRLF", "comments", "no end", "no space"],
)
def test_forms_that_the_standard_allows(change: Callable[[bytes], bytes]) -> None:
    body, expected = BODIES["anthropic"]
    assert outline(events_of([change(body)], adapter="sse")) == expected


def test_objects_of_clients_for_server_sent_events() -> None:
    objects = [
        SimpleNamespace(event="message", data=line[6:]) for line in BODIES["chat"][0].decode().split("\n\n") if line
    ]
    assert outline(events_of(objects)) == CHAT_OUTLINE


def test_what_is_not_known_is_counted() -> None:
    body = b'event: tick\ndata: {"n": 1}\n\n' * 3 + b"data: no json\n\n"
    assert outline(events_of([body])) == [
        ("custom", "tick"),
        ("custom", "dict"),
        ("custom", "unknown_items"),
        ("run ends", "completed"),
    ]
