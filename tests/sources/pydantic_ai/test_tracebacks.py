"""Tracebacks without values, and attempts at the same task."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent

from sidestream import InMemoryExporter, Sidecar, decode_line, encode_line
from sidestream.events import AgentStart, Error
from sidestream.recording.failure import INNERMOST, MAX_CHAIN, OUTERMOST, Failure
from tests.support.provider_model import Says, call, stream

HERE = __file__
SECRET = "hunter2"


def fetch(password: str) -> str:
    try:
        raise ConnectionError("no route")
    except ConnectionError as error:
        raise RuntimeError("cannot fetch") from error


def failing() -> Agent[None, str]:
    agent = Agent(Says([[call("look_up", {"password": SECRET})]]))

    @agent.tool_plain
    def look_up(password: str) -> str:
        return fetch(password)

    return agent


def errors_of(agent: Agent[None, Any], *, streamed: bool = False, **options: Any) -> list[Error]:
    memory = InMemoryExporter(**options)
    with Sidecar(memory) as sidecar:
        observed = sidecar.observe(agent)
        with pytest.raises((RuntimeError, ValueError)):
            asyncio.run(stream(observed) if streamed else observed.run("go"))
    told = [decode_line(encode_line(event)).data for event in memory.of("error")]
    return [data for data in told if isinstance(data, Error)]


@pytest.mark.parametrize("streamed", [False, True])
def test_an_error_has_its_frames_and_what_it_was_raised_from(streamed: bool) -> None:
    (error,) = errors_of(failing(), streamed=streamed)
    assert error.frames is not None
    assert [(each.file, each.function.rpartition(".")[2]) for each in error.frames][-2:] == [
        (HERE, "look_up"),
        (HERE, "fetch"),
    ]
    assert not [each for each in error.frames if "sidestream/" in each.file and "tests/" not in each.file]
    (cause,) = error.chain or []
    assert (cause.link, cause.exception_type, cause.error) == ("cause", "ConnectionError", "no route")
    assert [each.function for each in cause.frames or []] == ["fetch"]
    assert SECRET not in str(error.frames) + str(error.chain)


def test_a_model_that_fails_is_told_with_the_providers_frames() -> None:
    for streamed in (False, True):
        (error,) = errors_of(Agent(Says([[ValueError("overloaded")]])), streamed=streamed)
        assert error.frames is not None
        assert error.frames[-1].file.endswith("provider_model.py")
        libraries = [each.file for each in error.frames if each.file.startswith("pydantic_ai/")]
        assert libraries, "files of a library begin with its package"


def test_frames_stay_where_content_may_not_be_seen_and_messages_do_not() -> None:
    (error,) = errors_of(failing(), content="none")
    assert error.error is None
    assert error.frames is not None
    assert error.chain is not None
    assert error.chain[0].error is None


def raised_by(call: Any) -> Failure:
    try:
        call()
    except BaseException as error:
        return Failure.traced(error)
    raise AssertionError


def test_a_deep_recursion_and_a_long_chain_are_bounded() -> None:
    def deeper(levels: int) -> None:
        if levels:
            deeper(levels - 1)
        raise ValueError(levels)

    assert len(raised_by(lambda: deeper(500)).frames) == OUTERMOST + INNERMOST

    def chained(links: int) -> None:
        try:
            if links:
                chained(links - 1)
        finally:
            raise KeyError(links)

    assert len(raised_by(lambda: chained(100)).chain) == MAX_CHAIN


def test_groups_have_their_members_and_circles_end() -> None:
    first, second = ValueError("a"), ExceptionGroup("inner", [KeyError("b")])
    first.__cause__ = second  # a cycle through the group
    failure = raised_by(lambda: (_ for _ in ()).throw(ExceptionGroup("outer", [first, second])))
    assert [(each.link, each.exception_type) for each in failure.chain] == [
        ("member", "ValueError"),
        ("cause", "ExceptionGroup"),
        ("member", "KeyError"),
    ]


def test_attempts_are_numbered_and_named_by_the_first() -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        child = sidecar.observe(Agent(Says([["from below"]]), name="child"))
        agent = sidecar.observe(Agent(Says([[call("ask")], ["done"]]), name="parent"))

        @agent.tool_plain
        async def ask() -> str:
            return str((await child.run("?")).output)

        async def main() -> None:
            with sidecar.attempts():
                await agent.run("one")
                with sidecar.tags(tenant="acme"):
                    await agent.run("two")
            await agent.run("three")

        asyncio.run(main())
    starts = [event for event in memory.of("agent_start") if event.agent_name == "parent"]
    told = [(event.data.attempt, event.data.attempt_of) for event in starts]
    assert told == [(1, starts[0].run_id), (2, starts[0].run_id), (None, None)]
    assert all(isinstance(event.data, AgentStart) for event in starts)
    children = [event.data.attempt for event in memory.of("agent_start") if event.agent_name == "child"]
    assert children == [None, None, None]


def test_the_path_of_a_tapped_stream_is_told_too(tmp_path: Path) -> None:
    memory = InMemoryExporter()

    def breaking() -> Any:
        yield "a"
        raise OSError("cut")

    with Sidecar(memory) as sidecar, pytest.raises(OSError, match="cut"):
        list(sidecar.tap(breaking()))
    (error,) = memory.of("error")
    assert error.data.frames[-1].function.endswith("breaking")
