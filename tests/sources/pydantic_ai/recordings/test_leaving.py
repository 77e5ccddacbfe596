"""Consumer that leaves, or is cancelled, in the middle of a slow stream from a real client: the caller's view is the
same as without a sidecar, the provider is not blamed, and the usage so far is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic_ai import PartDeltaEvent

from sidestream import InMemoryExporter, Sidecar
from sidestream.events import StreamEvent
from tests.support.caller_view import Observe, Seen, consume, serving
from tests.support.provider_server import Delivery, Exchange, ReadRecording, ReplayServer, sse_events
from tests.support.provider_streams import Answer, read_answer
from tests.support.recorded_agents import BY_NAME, RecordedAgent
from tests.support.recorded_run_log import assert_usage, assert_whole, of, requests_of

pytestmark = [pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning"), pytest.mark.scenario_02]


DELTAS = 5
"""Delta at which the consumer acts."""
SENT = {
    "openai-agent-tools-stream": 8,
    "openai-responses-tool-stream": 8,
    "anthropic-thinking-stream": 12,
    "groq-tool-use-failed-stream": 12,
}
"""Number of events, by recording, after which the provider falls silent in the middle of a part."""


class ConsumerError(Exception):
    """Error raised in the body of the caller's loop."""


@dataclass
class Scene:
    """Consumer in the middle of a stream."""

    server: ReplayServer
    seen: Seen
    cancel: Callable[[], bool]

    async def all_has_come(self) -> None:
        """Wait until the provider has fallen silent, and the consumer has received everything sent."""
        await asyncio.to_thread(self.server.holding.wait)
        calm, count = 0, -1
        while calm < 4:
            calm, count = (calm + 1 if count == len(self.seen.events) else 0), len(self.seen.events)
            await asyncio.sleep(0.02)


Act = Callable[[Scene], Awaitable[bool | None]]


async def breaks_out(scene: Scene) -> bool:
    return True


async def raises(scene: Scene) -> None:
    raise ConsumerError("the consumer's own")


async def is_cancelled_in_its_own_body(scene: Scene) -> None:
    scene.cancel()
    await asyncio.sleep(60)


async def is_cancelled_while_it_waits_for_the_provider(scene: Scene) -> None:
    async def later() -> None:
        await scene.all_has_come()
        scene.cancel()

    scene.seen.helper = asyncio.create_task(later())


@dataclass
class Left:
    recorded: RecordedAgent
    bare: Seen
    observed: Seen
    events: list[StreamEvent]
    sent: Answer
    """Events sent by the provider."""


def play(recorded: RecordedAgent, exchange: Exchange, act: Act, observe: Observe) -> Seen:
    """Run in which the consumer does `act` at delta number `DELTAS`."""

    async def main(server: ReplayServer, seen: Seen) -> None:
        deltas = 0

        async def on_event(event: Any) -> bool | None:
            nonlocal deltas
            deltas += isinstance(event, PartDeltaEvent)
            if deltas == DELTAS and isinstance(event, PartDeltaEvent):
                return await act(Scene(server, seen, task.cancel))
            return None

        task = asyncio.create_task(consume(seen, recorded, server, observe, on_event))
        await asyncio.wait([task])
        if task.cancelled():
            return
        await task

    with serving([exchange], Delivery(delay=0.004, hold_after=SENT[recorded.recording])) as (server, seen):
        asyncio.run(main(server, seen))
    return seen


def play_both(recording: ReadRecording, name: str, act: Act) -> Left:
    recorded, exchange = BY_NAME[name], recording(name)[0]
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        observed = play(recorded, exchange, act, sidecar.observe)
    return Left(
        recorded=recorded,
        bare=play(recorded, exchange, act, lambda agent: agent),
        observed=observed,
        events=memory.events,
        sent=read_answer(recorded.api, sse_events(observed.sent[0])),
    )


def assert_log(left: Left, run: str, request: str) -> None:
    """Assert one run with one request and this outcome, the first of the sent deltas, and the counted usage."""
    assert_whole(left.events, run)
    (logged,) = requests_of(left.events)
    assert logged.end.outcome == request
    assert of(left.events, "error") == []
    assert of(left.events, "final_result") == []
    ours = [piece for part in logged.parts() for piece in part.pieces]
    theirs = [piece for part in left.sent.parts.values() for piece in part.pieces]
    assert len(ours) >= DELTAS
    assert ours == theirs[: len(ours)]
    if left.sent.usage:
        assert logged.end.usage_source == "partial"
        assert_usage(logged.end.usage, left.sent.usage)
        assert logged.end.cost_source == "genai-prices"
    else:
        assert (logged.end.usage_source, logged.end.usage, logged.end.cost_usd) == ("none", None, None)
    assert logged.end.response_id == left.sent.response_id


@pytest.fixture(params=SENT)
def name(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


def test_a_consumer_that_breaks_out_has_abandoned_the_run(recording: ReadRecording, name: str) -> None:
    left = play_both(recording, name, breaks_out)
    assert left.bare.error is None
    assert left.observed.comparable() == left.bare.comparable()
    assert_log(left, "abandoned", "interrupted")


def test_a_consumer_that_raises_in_its_own_body_has_abandoned_the_run(recording: ReadRecording, name: str) -> None:
    left = play_both(recording, name, raises)
    assert isinstance(left.bare.error, ConsumerError)
    assert left.observed.comparable() == left.bare.comparable()
    assert_log(left, "abandoned", "interrupted")


@pytest.mark.parametrize("act", [is_cancelled_in_its_own_body, is_cancelled_while_it_waits_for_the_provider])
def test_a_task_cancelled_in_mid_stream_has_its_run_cancelled(recording: ReadRecording, name: str, act: Act) -> None:
    left = play_both(recording, name, act)
    assert isinstance(left.bare.error, asyncio.CancelledError)
    assert left.observed.comparable() == left.bare.comparable()
    assert_log(left, "cancelled", "cancelled")


@pytest.mark.parametrize("name", ["openai-responses-tool-stream", "anthropic-thinking-stream"])
def test_all_that_came_before_the_cancellation_is_in_the_log(recording: ReadRecording, name: str) -> None:
    left = play_both(recording, name, is_cancelled_while_it_waits_for_the_provider)
    (logged,) = requests_of(left.events)
    assert [piece for part in logged.parts() for piece in part.pieces] == [
        piece for part in left.sent.parts.values() for piece in part.pieces
    ]
