"""Time to first token over real HTTP: includes the provider's delay, and excludes the consumer's. Times are compared
with each other and with the test's own measurements, never with absolute durations."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from pydantic_ai import PartDeltaEvent, PartStartEvent, TextPart, ThinkingPart, ThinkingPartDelta

from sidestream import InMemoryExporter, Sidecar
from tests.support.caller_view import Seen, consume, serving, watch_observed
from tests.support.provider_server import Delivery, ReadRecording, ReplayServer
from tests.support.recorded_agents import BY_NAME
from tests.support.recorded_run_log import LoggedRequest, requests_of

pytestmark = [pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning"), pytest.mark.scenario_17]

DELAY = 0.3
"""Delay of the provider or the consumer in seconds."""
PAUSES = {36: DELAY, 40: DELAY}
"""Pauses within the answer: during the first, a client on a busy machine catches up with the pieces sent so far."""


RECORDED = BY_NAME["anthropic-thinking-stream"]


def _request(
    recording: ReadRecording, delivery: Delivery, on_event: Any = None, stall_seconds: float = 2.0
) -> LoggedRequest:
    exchanges = recording(RECORDED.recording)
    _, events = watch_observed(RECORDED, exchanges, delivery, on_event=on_event, stall_seconds=stall_seconds)
    (request,) = requests_of(events)
    return request


def _thinks(event: Any) -> bool:
    return (isinstance(event, PartStartEvent) and isinstance(event.part, ThinkingPart)) or (
        isinstance(event, PartDeltaEvent) and isinstance(event.delta, ThinkingPartDelta)
    )


def test_a_provider_that_is_late_with_its_headers_is_late_with_its_first_token(recording: ReadRecording) -> None:
    end = _request(recording, Delivery(headers_delay=DELAY)).end
    assert end.time_to_first_token_seconds["thinking"] >= DELAY
    assert end.time_to_first_chunk_seconds >= DELAY


def test_a_provider_that_is_late_with_its_first_byte_is_late_with_its_first_token(recording: ReadRecording) -> None:
    end = _request(recording, Delivery(pauses={0: DELAY})).end
    assert end.time_to_first_token_seconds["thinking"] >= DELAY
    assert end.time_to_first_chunk_seconds >= DELAY


def test_a_slow_consumer_does_not_make_the_first_token_late(recording: ReadRecording) -> None:
    held = 0.0

    async def slowly(event: Any) -> None:
        nonlocal held
        if _thinks(event):
            before = time.monotonic()
            await asyncio.sleep(DELAY / 4)
            held += time.monotonic() - before

    end = _request(recording, Delivery(), slowly).end
    assert end.time_to_first_token_seconds["text"] < held / 2


def test_the_consumers_hold_and_the_providers_wait_are_told_apart(recording: ReadRecording) -> None:
    held = 0.0

    async def slowly(event: Any) -> None:
        nonlocal held
        if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
            before = time.monotonic()
            await asyncio.sleep(DELAY)
            held += time.monotonic() - before

    slow = _request(recording, Delivery(), slowly).end
    late = _request(recording, Delivery(pauses={0: DELAY})).end
    assert slow.consumer_hold_seconds >= held * 0.9
    assert late.provider_wait_seconds > DELAY / 2
    for end in (slow, late):  # no second counts as both
        assert end.consumer_hold_seconds + end.provider_wait_seconds <= end.duration_seconds


def test_a_pause_in_the_stream_is_its_longest_gap(recording: ReadRecording) -> None:
    end = _request(recording, Delivery(pauses=PAUSES)).end
    # Half, because during the provider's pause the client may still process earlier data.
    assert DELAY / 2 < end.gap_max_seconds <= end.provider_wait_seconds
    assert end.time_to_first_token_seconds["thinking"] < end.gap_max_seconds


def test_a_silence_longer_than_stall_seconds_is_a_stall(recording: ReadRecording) -> None:
    silent = _request(recording, Delivery(pauses=PAUSES), stall_seconds=DELAY / 2).end
    assert silent.stalls >= 1
    patient = _request(recording, Delivery(pauses=PAUSES), stall_seconds=60).end
    assert patient.stalls == 0


def test_a_silence_that_ends_in_a_failure_is_a_wait_and_a_stall(recording: ReadRecording) -> None:
    sent = sum(len(piece) for piece in Delivery().pieces(recording(RECORDED.recording)[0].body)[:40])
    end = _request(recording, Delivery(pauses=PAUSES, cut_after=sent + 1), stall_seconds=DELAY / 2).end
    assert end.outcome == "error"
    assert end.provider_wait_seconds > DELAY / 2
    assert end.stalls >= 1


def test_a_silence_that_ends_in_a_cancellation_is_a_wait_and_a_stall(recording: ReadRecording) -> None:
    memory = InMemoryExporter()

    async def main(server: ReplayServer, seen: Seen, sidecar: Sidecar) -> None:
        task = asyncio.create_task(consume(seen, RECORDED, server, sidecar.observe))
        await asyncio.to_thread(server.holding.wait)
        await asyncio.sleep(2 * DELAY)
        task.cancel()
        await asyncio.wait([task])

    with serving(recording(RECORDED.recording), Delivery(hold_after=40)) as (server, seen):
        with Sidecar(memory, stall_seconds=DELAY / 2) as sidecar:
            asyncio.run(main(server, seen, sidecar))
    end = requests_of(memory.events)[0].end
    assert end.outcome == "cancelled"
    assert end.provider_wait_seconds > DELAY / 2
    assert end.stalls >= 1


def test_the_times_of_the_deltas_are_those_of_their_arrival(recording: ReadRecording) -> None:
    delay = 0.006
    request = _request(recording, Delivery(delay=delay))
    times = sorted(t for times in request.times().values() for t in times)
    # Half, because the first of them may have been received late.
    assert times[-1] - times[0] > delay * (len(times) - 1) / 2
