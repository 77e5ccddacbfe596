"""Malformed streams: the caller gets each item, and the log has one complete run."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestream import decode_line, encode_line
from tests.sources.adapters import test_anthropic, test_google, test_openai_responses, test_sse
from tests.support.tapped_streams import Watching

ANSWERS: dict[str, list[Any]] = {
    "openai-chat": test_sse.CHAT,
    "openai-responses": test_openai_responses.ANSWER,
    "anthropic": test_anthropic.ANSWER,
    "google": test_google.ANSWER,
}
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Path to every value within `value`."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [place for key, each in inner for place in places(each, (*path, key))]
    return [path, *below] if path else below


@st.composite
def spoilt(draw: st.DrawFn, answer: list[Any]) -> list[Any]:
    """`answer` with random values replaced by junk or removed, possibly truncated."""
    items = copy.deepcopy(answer)
    for _ in range(draw(st.integers(0, 4))):
        *path, last = draw(st.sampled_from(places(items)))
        holder: Any = items
        for key in path:
            holder = holder[key]
        if draw(st.booleans()):
            holder[last] = draw(junk)
        else:
            del holder[last]
        if not items:
            break
    return items[: draw(st.integers(0, len(items)))]


def check(watching: Watching, items: list[Any], adapter: str | None) -> None:
    with watching.sidecar as sidecar:
        got = list(sidecar.tap(items, adapter=adapter))
        assert [id(item) for item in got] == [id(item) for item in items]
        assert watching.outcome() in ("completed", "error")
        for event in watching.events():
            decode_line(encode_line(event))


@pytest.mark.parametrize("adapter", ANSWERS)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_spoilt_answer_spoils_nothing_else(adapter: str, data: st.DataObject) -> None:
    items = data.draw(spoilt(ANSWERS[adapter]))
    check(Watching(), items, data.draw(st.sampled_from([adapter, None])))


@settings(max_examples=80, deadline=None)
@given(data=st.data(), size=st.integers(1, 50))
def test_a_spoilt_answer_over_http(data: st.DataObject, size: int) -> None:
    items = data.draw(st.sampled_from([*ANSWERS.values()]).flatmap(spoilt))
    body = "".join(f"data: {json.dumps(item)}\n\n" for item in items).encode()
    check(Watching(), [body[i : i + size] for i in range(0, len(body), size)], "sse")


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=200) | st.text(max_size=200), size=st.integers(1, 20))
def test_any_bytes_and_any_text_as_server_sent_events(body: Any, size: int) -> None:
    check(Watching(), [body[i : i + size] for i in range(0, len(body), size)], "sse")
