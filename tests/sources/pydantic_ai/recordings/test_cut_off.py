"""Streams cut off by the provider: the caller gets the client's exception unchanged; the log has the outcome
`error`, the received deltas, and only the usage counted by then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import pytest

from sidestream.events import StreamEvent
from tests.support.caller_view import Seen, watch, watch_observed
from tests.support.provider_server import Delivery, ReadRecording, sse_events
from tests.support.provider_streams import Answer, read_answer
from tests.support.recorded_agents import BY_NAME, RecordedAgent
from tests.support.recorded_run_log import LoggedRequest, assert_usage, assert_whole, of, requests_of

pytestmark = pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")

TEXT = "openai-agent-tools-stream"
TOOL = "openai-chat-stream"
RESPONSES = "openai-responses-reasoning-usage-stream"
THINKING = "anthropic-thinking-stream"
COMPACTION = "anthropic-cache-usage-stream"


@dataclass
class CutOff:
    recorded: RecordedAgent
    bare: Seen
    observed: Seen
    events: list[StreamEvent]
    arrived: Answer
    """Answer in the events that arrived completely."""
    request: LoggedRequest


class Cut(NamedTuple):
    """Position and kind of the connection's end."""

    share: float
    """Position in bytes of the body."""
    how: Literal["reset", "close"]


# Before the first complete event, between events, within the last event with content or usage, and after all of them.
CUTS = [
    Cut(0.0, "reset"),
    Cut(0.01, "close"),
    Cut(0.3, "reset"),
    Cut(0.5, "close"),
    Cut(0.77, "reset"),
    Cut(0.97, "close"),
    Cut(0.9985, "reset"),
]


@pytest.fixture(scope="module", params=CUTS, ids=[f"{cut.how}-after-{cut.share:.2%}" for cut in CUTS])
def cut(request: pytest.FixtureRequest) -> Cut:
    value: Cut = request.param
    return value


@pytest.fixture(scope="module", params=[TEXT, TOOL, RESPONSES, THINKING, COMPACTION])
def cut_off(request: pytest.FixtureRequest, recording: ReadRecording, cut: Cut) -> CutOff:
    recorded = BY_NAME[request.param]
    exchange, *_ = recording(request.param)
    delivery = Delivery(cut_after=int(cut.share * len(exchange.body)), cut=cut.how)
    bare = watch(recorded, [exchange], delivery)
    observed, events = watch_observed(recorded, [exchange], delivery)
    return CutOff(
        recorded=recorded,
        bare=bare,
        observed=observed,
        events=events,
        arrived=read_answer(recorded.api, sse_events(observed.sent[0])),
        request=requests_of(events)[0],
    )


def test_the_caller_sees_the_same_events_and_exception(cut_off: CutOff) -> None:
    assert cut_off.bare.error is not None
    assert cut_off.observed.comparable() == cut_off.bare.comparable()


def test_request_and_run_end_with_the_error_that_the_caller_got(cut_off: CutOff) -> None:
    error = cut_off.observed.error
    assert error is not None
    assert_whole(cut_off.events, "error")
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    end = cut_off.request.end
    assert (end.outcome, end.exception_type, end.error) == ("error", name, str(error))
    assert of(cut_off.events, "agent_end")[0].exception_type == name
    assert [(e.where, e.request, e.exception_type) for e in of(cut_off.events, "error")] == [("model", 1, name)]


def test_the_log_holds_the_deltas_that_arrived(cut_off: CutOff) -> None:
    given = [part for part in cut_off.arrived.parts.values() if part.pieces]
    logged = [part for part in cut_off.request.parts() if part.pieces]
    assert [(part.kind, part.tool_name, part.pieces) for part in logged] == [
        (part.kind, part.tool_name, part.pieces) for part in given
    ]


def test_the_error_stands_after_the_deltas_that_came_before_it(cut_off: CutOff) -> None:
    types = [event.event_type for event in cut_off.events if event.event_type in ("llm_chunk", "error")]
    assert types == ["llm_chunk"] * (len(types) - 1) + ["error"]


def test_usage_is_what_had_been_counted_by_then_and_is_marked_as_partial(cut_off: CutOff) -> None:
    end = cut_off.request.end
    if cut_off.arrived.usage:
        # If the client failed before it passed the last event on, the earlier usage counts, or none.
        assert end.usage_source == "partial"
        assert_usage(end.usage, cut_off.arrived.usage)
    else:
        assert (end.usage_source, end.usage) == ("none", None)
        assert (end.cost_usd, end.cost_source) == (None, None)
        assert of(cut_off.events, "agent_end")[0].total_tokens is None


def test_what_was_identified_by_then_is_identified(cut_off: CutOff) -> None:
    end = cut_off.request.end
    if cut_off.arrived.parts:
        assert end.response_id == cut_off.arrived.response_id
        assert end.response_model == cut_off.arrived.model
