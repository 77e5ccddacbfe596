"""Realtime session: a run that lasts as long as the session. The provider is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest
from pydantic_ai import Agent
from pydantic_ai.realtime import RealtimeTurnCompleteEvent
from pydantic_ai.realtime.codec import ResponseDone, ToolCall

from sidestream import InMemoryExporter, Sidecar
from sidestream.events import StreamEvent
from tests.support.caller_acts import CallerError
from tests.support.comparison import chain, plain
from tests.support.consumption_modes import AnyAgent, Observe, assert_settled, listening, loop_noise
from tests.support.realtime_model import ENDS, SAYS, USED, ScriptedRealtimeModel
from tests.support.run_outline import assert_whole, by_run, of, outline

ANSWER = [*SAYS, USED, ResponseDone()]
CALLS = [ToolCall("call-1", tool_name="look", args='{"where": "out"}'), ResponseDone()]

Consume: TypeAlias = Callable[[Any, Callable[[Any], None]], Any]


async def to_the_end_of_a_turn(session: Any, note: Callable[[Any], None]) -> None:
    await session.send("hi")
    async for event in session:
        note(event)
        if isinstance(event, RealtimeTurnCompleteEvent):
            break


def agent() -> AnyAgent:
    made: AnyAgent = Agent(name="voice")

    @made.tool_plain
    async def look(where: str) -> str:
        if where == "nowhere":
            raise ValueError("a bug")
        return f"rain {where}"

    return made


def both(consume: Consume, *answers: Sequence[Any]) -> list[StreamEvent]:
    """Log of a session used by `consume`, whose view is the same without a sidecar."""

    def play(observe: Observe) -> Any:
        names: dict[str, str] = {}
        seen: list[Any] = []
        noise: list[Any] = []
        told: Any = None

        async def main() -> Any:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(loop_noise(context)))
            async with observe(agent()).realtime(ScriptedRealtimeModel(*answers)).session() as session:
                await consume(session, lambda event: seen.append(plain(event, names)))
            return plain(session.all_messages(), names)

        with listening(noise):
            try:
                told = asyncio.run(main())
            except BaseException as error:
                told = chain(error, names)
        return seen, told, noise

    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        observed = play(sidecar.observe)
        assert_settled(sidecar)
    assert observed == play(lambda each: each)
    for run in by_run(memory.events):
        assert_whole(run)
    return memory.events


def test_a_session_is_a_run() -> None:
    events = both(to_the_end_of_a_turn, ANSWER)
    start: Any = events[0].data
    assert (start.mode, events[0].agent_name) == ("realtime", "voice")
    assert outline(events).split()[-1] == "completed"
    assert of(events, "error") == []


def test_its_tools_are_in_the_log() -> None:
    events = both(to_the_end_of_a_turn, CALLS, ANSWER)
    (start,), (end,) = of(events, "tool_start"), of(events, "tool_end")
    assert (start.tool_name, start.tool_call_id, start.args) == ("look", "call-1", {"where": "out"})
    assert (end.outcome, end.result) == ("ok", "rain out")


@pytest.mark.parametrize(
    ("args", "outcome"), [('{"where": "nowhere"}', "failed"), ('{"where": 1}', "invalid"), ("{", "invalid")]
)
def test_tools_that_go_wrong_are_in_the_log(args: str, outcome: str) -> None:
    calls = [ToolCall("call-1", tool_name="look", args=args), ResponseDone()]
    events = both(to_the_end_of_a_turn, calls, ANSWER)
    assert [data.outcome for data in of(events, "tool_end")] == [outcome]


def test_a_caller_that_raises_has_abandoned_the_session() -> None:
    async def raises(session: Any, note: Callable[[Any], None]) -> None:
        await to_the_end_of_a_turn(session, note)
        raise CallerError("the caller's own")

    events = both(raises, ANSWER)
    assert outline(events).split()[-1] == "abandoned"
    assert of(events, "error") == []


def test_a_cancelled_session_is_cancelled() -> None:
    async def is_cancelled(session: Any, note: Callable[[Any], None]) -> None:
        await session.send("hi")
        task = asyncio.current_task()
        assert task is not None
        async for event in session:
            note(event)
            task.cancel()

    assert outline(both(is_cancelled, SAYS)).split()[-1] == "cancelled"


def test_a_caller_out_of_its_own_time_has_abandoned_the_session() -> None:
    async def waits(session: Any, note: Callable[[Any], None]) -> None:
        await session.send("hi")
        async with asyncio.timeout(0.5):
            async for event in session:
                note(event)

    assert outline(both(waits, SAYS)).split()[-1] == "abandoned"


def test_a_connection_that_breaks_is_an_error() -> None:
    async def listens(session: Any, note: Callable[[Any], None]) -> None:
        await session.send("hi")
        async for event in session:
            note(event)

    events = both(listens, [*SAYS, ConnectionError("the line is dead")])
    assert outline(events).split()[-1] == "error"
    assert of(events, "error")[-1].exception_type


def test_a_provider_that_hangs_up_ends_the_session() -> None:
    async def listens(session: Any, note: Callable[[Any], None]) -> None:
        await session.send("hi")
        async for event in session:
            note(event)

    events = both(listens, [*ANSWER, ENDS])
    assert outline(events).split()[-1] in ("completed", "error")
