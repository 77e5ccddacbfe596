"""Callers of an SDK get the same classes, items and exceptions, observed or not; and the log is correct."""

from __future__ import annotations

import pytest

from tests.support.provider_server import Delivery
from tests.support.sdk_answers import ARGS, MODELS, USED, failing, refused, streamed, whole
from tests.support.sdk_calls import ASKED, WAYS, View, Way
from tests.support.sdk_observed import both, cancelled

PLAIN_STREAMS = [name for name, way in WAYS.items() if way.streaming and " with " not in name]


def answer_of(way: Way) -> bytes:
    return streamed(way.api) if way.streaming else whole(way.api)


@pytest.mark.parametrize("name", WAYS)
def test_an_answer(name: str) -> None:
    way = WAYS[name]
    bare, observed, installed = both(way, answer_of(way), json=not way.streaming)
    assert observed == bare
    assert observed.raised is None
    assert len(observed.items) >= 1
    [(request, *parts, end, over)] = installed.outlines()
    assert request == ("request", MODELS[way.api])
    assert parts == [("text", "I will look."), ("tool_call", "look", parts[1][2])]
    assert parts[1][2].replace(" ", "") == ARGS.replace(" ", "")
    assert end == ("request ends", "ok", "tool_call", USED)
    assert over == ("run ends", "completed")
    [events] = installed.runs()
    [told] = [event.data for event in events if event.event_type == "llm_end"]
    assert (told.streaming, told.start_unknown) == (way.streaming, None)
    assert told.usage.cache_read_tokens == 400
    assert told.cost_usd is not None or way.api == "groq"
    assert (told.time_to_first_token_seconds is not None) == way.streaming
    assert events[0].data.prompt == "Where is it?"


@pytest.mark.parametrize("name", [name for name in WAYS if name.endswith((" whole", "async stream", "helper"))])
def test_a_request_that_is_refused(name: str) -> None:
    way = WAYS[name]
    bare, observed, installed = both(way, refused(way.api), status=400, json=True)
    assert observed == bare
    assert observed.raised is not None
    [(_, error, end, over)] = installed.outlines()
    assert error[:2] == ("error", "model")
    assert (end[1], over) == ("error", ("run ends", "error"))


@pytest.mark.parametrize("name", PLAIN_STREAMS)
def test_an_error_within_the_stream(name: str) -> None:
    way = WAYS[name]
    bare, observed, installed = both(way, streamed(way.api, failing(way.api)))
    assert observed == bare
    [(*_, end, over)] = installed.outlines()
    assert (end[1], over) == ("error", ("run ends", "error"))


@pytest.mark.parametrize("name", PLAIN_STREAMS)
def test_a_connection_that_breaks(name: str) -> None:
    way = WAYS[name]
    body = answer_of(way)
    bare, observed, installed = both(way, body, delivery=Delivery(cut_after=len(body) // 2))
    assert (observed.items, type(observed.raised)) == (bare.items, type(bare.raised))
    assert observed.raised == bare.raised or observed.raised is not None
    [(*_, end, over)] = installed.outlines()
    assert (end[1], over) == ("error", ("run ends", "error"))


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.streaming])
def test_leaving_early(name: str) -> None:
    way = WAYS[name]
    bare, observed, installed = both(way, answer_of(way), leave_after=2)
    assert observed == bare
    [(*_, end, over)] = installed.outlines()
    assert (end[1], over) == ("interrupted", ("run ends", "abandoned"))


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.is_async])
def test_cancellation(name: str) -> None:
    """During the wait for the answer, or in mid-stream."""
    way = WAYS[name]
    [(*_, end, over)] = cancelled(way, answer_of(way)).outlines()
    assert (end[1], over) == ("cancelled", ("run ends", "cancelled"))


@pytest.mark.parametrize(
    "name", ["openai chat async stream", "anthropic messages async whole", "groq groq async stream"]
)
def test_a_limit_of_time(name: str) -> None:
    """The outcome is right although the client awaits the closing of its connection before it raises."""
    way = WAYS[name]
    [(*_, over)] = cancelled(way, answer_of(way), by_limit=True).outlines()
    assert over == ("run ends", "timed_out")


@pytest.mark.parametrize("library", ["openai", "anthropic"])
def test_a_stream_whose_lines_the_caller_reads(library: str) -> None:
    """Nobody but the caller knows what they say, and that the caller leaves early."""

    def ask(url: str, view: View, leave_after: int | None) -> None:
        client = getattr(__import__(library), {"openai": "OpenAI", "anthropic": "Anthropic"}[library])
        with client(base_url=url, api_key="none", max_retries=0) as each:
            if library == "openai":
                asking = each.responses.with_streaming_response.create(model="gpt-5-mini", input="?", stream=True)
            else:
                raw = each.messages.with_streaming_response
                asking = raw.create(model="claude-sonnet-4-6", messages=ASKED, max_tokens=9, stream=True)
            with asking as answer:
                view.items.extend(answer.iter_lines())

    api = {"openai": "responses", "anthropic": "messages"}[library]
    bare, observed, installed = both(Way(library, api, True, ask), streamed(api))
    assert observed == bare
    assert [rows[1:] for rows in installed.outlines()] == [
        [("request ends", "ok", None, None), ("run ends", "completed")]
    ]
