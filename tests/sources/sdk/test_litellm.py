"""litellm with a local provider: recorded once, by litellm, and callers get the same."""

from __future__ import annotations

import gc
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from sidestream import Sidecar
from tests.support.loopback import until
from tests.support.provider_server import Delivery
from tests.support.sdk_answers import MODELS, USED, failing, refused, streamed, whole
from tests.support.sdk_calls import litellm_ways
from tests.support.sdk_observed import both, cancelled

pytest.importorskip("litellm")
WAYS = litellm_ways()
STREAMS = [name for name, way in WAYS.items() if way.streaming]


@pytest.mark.parametrize("name", WAYS)
def test_an_answer(name: str) -> None:
    way = WAYS[name]
    bare, observed, installed = both(way, streamed("chat") if way.streaming else whole("chat"), json=not way.streaming)
    assert observed == bare
    [told] = installed.outlines()
    assert told == [
        ("request", f"openai/{MODELS['chat']}"),
        ("text", "I will look."),
        ("tool_call", "look", '{"at": "A-1"}'),
        ("request ends", "ok", "tool_call", USED),
        ("run ends", "completed"),
    ]
    [end] = [event.data for event in installed.memory.events if event.event_type == "llm_end"]
    assert (end.usage.cache_read_tokens, end.streaming) == (400, way.streaming)
    assert end.cost_usd == pytest.approx((600 * 0.25 + 400 * 0.025 + 20 * 2) / 1e6)


@pytest.mark.parametrize("name", WAYS)
def test_a_request_that_is_refused(name: str) -> None:
    bare, observed, installed = both(WAYS[name], refused("chat"), status=400, json=True)
    assert observed == bare
    assert observed.raised is not None
    [(_, error, end, over)] = installed.outlines()
    assert (error[:2], end[1], over) == (("error", "model"), "error", ("run ends", "error"))


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("breaks", [False, True])
def test_a_stream_that_fails(name: str, breaks: bool) -> None:
    body = streamed("chat") if breaks else streamed("chat", failing("chat"))
    how: dict[str, Any] = {"delivery": Delivery(cut_after=len(body) // 2)} if breaks else {}
    bare, observed, installed = both(WAYS[name], body, **how)
    assert observed.items == bare.items
    assert type(observed.raised) is type(bare.raised)
    [(*_, end, over)] = installed.outlines()
    assert (end[1], over) == ("error", ("run ends", "error"))


def _freed(sidecar: Sidecar) -> None:
    """Threads of litellm may keep a reference to an abandoned stream."""
    until(lambda: gc.collect() >= 0 and not sidecar.stats().runs_in_progress)


@pytest.mark.parametrize("name", STREAMS)
def test_leaving_early(name: str) -> None:
    bare, observed, installed = both(WAYS[name], streamed("chat"), leave_after=2, before_end=_freed)
    assert observed == bare
    [(*_, end, over)] = installed.outlines()
    assert (end[1], over) == ("interrupted", ("run ends", "abandoned"))


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.is_async])
def test_cancellation(name: str) -> None:
    way = WAYS[name]
    [(*_, end, over)] = cancelled(way, streamed("chat") if way.streaming else whole("chat")).outlines()
    assert (end[1], over) == ("cancelled", ("run ends", "cancelled"))


def test_a_limit_of_time() -> None:
    [(*_, over)] = cancelled(WAYS["litellm async stream"], streamed("chat"), by_limit=True).outlines()
    assert over == ("run ends", "timed_out")


@pytest.mark.parametrize("name", STREAMS)
def test_the_usage_of_a_stream_that_nobody_has_asked_for(name: str) -> None:
    """The provider reports it, and litellm keeps it to itself."""
    way = replace(WAYS[name], ask=partial(cast(Any, WAYS[name].ask), stream_options=None))
    bare, observed, installed = both(way, streamed("chat"))
    assert observed == bare
    assert [rows[-2:] for rows in installed.outlines()] == [
        [("request ends", "ok", "tool_call", USED), ("run ends", "completed")]
    ]
