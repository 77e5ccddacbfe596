"""Time to first token: which token, and whose delay is included. Times are compared with each other and with delays"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from pydantic_ai import Agent

from sidestream import InMemoryExporter, Sidecar
from tests.support.consumption_modes import PROMPT, STREAMED, WHOLE, Play, check
from tests.support.run_outline import of
from tests.support.scripted_model import Call, Pause, Scene, Think, agent_of

pytestmark = pytest.mark.scenario_17

LATE = 0.1
"""Delay in seconds."""


def _end(*answers: Any, mode: str = "run_stream_events", act: Any = None, at: int = 1, log: str = "") -> Any:
    """First `llm_end` of a run in which the model gives `answers`."""
    what = Play(lambda: agent_of(*answers, tools=[look]), act, at)
    return of(check(what, mode, log or "llm:ok final completed"), "llm_end")[0]


async def look() -> str:
    return "seen"


@pytest.mark.parametrize("mode", STREAMED)
def test_text_is_timed_from_the_request_to_its_first_piece(mode: str) -> None:
    end = _end([Pause(LATE), "a", Pause(LATE), "b"], mode=mode)
    assert set(end.time_to_first_token_seconds) == {"text"}
    assert LATE <= end.time_to_first_token_seconds["text"] < end.duration_seconds
    assert end.time_to_first_chunk_seconds <= end.time_to_first_token_seconds["text"]


def test_an_empty_chunk_is_a_chunk_and_no_token() -> None:
    end = _end([Think(""), Pause(LATE), "a"])
    assert set(end.time_to_first_token_seconds) == {"text"}
    assert end.time_to_first_token_seconds["text"] - end.time_to_first_chunk_seconds >= LATE * 0.9


def test_thinking_is_timed_apart_from_text() -> None:
    end = _end([Think("h"), Think("m"), Pause(LATE), "a"])
    assert set(end.time_to_first_token_seconds) == {"thinking", "text"}
    assert end.time_to_first_token_seconds["text"] - end.time_to_first_token_seconds["thinking"] >= LATE * 0.9


def test_a_tool_call_is_timed_apart_from_text() -> None:
    end = _end([Call("look"), Pause(LATE), "a"], ["b"], log="llm:ok look:ok llm:ok final completed")
    assert set(end.time_to_first_token_seconds) == {"tool_call", "text"}
    assert end.time_to_first_token_seconds["text"] - end.time_to_first_token_seconds["tool_call"] >= LATE * 0.9


@pytest.mark.parametrize("mode", WHOLE)
def test_an_answer_in_one_piece_has_no_first_token(mode: str) -> None:
    end = _end([Think("hm"), "a"], mode=mode)
    assert end.time_to_first_token_seconds is None
    assert end.time_to_first_chunk_seconds is None
    assert end.chunks is None


@pytest.mark.parametrize("mode", ["run_stream_events", "node.stream", "run_stream"])
def test_a_consumer_that_is_slow_with_one_event_does_not_make_the_next_late(mode: str) -> None:
    async def dawdles(scene: Scene) -> None:
        await asyncio.sleep(LATE)

    end = _end([Think("h"), "a", "b"], mode=mode, act=dawdles)
    assert end.time_to_first_token_seconds["text"] < LATE
    assert end.consumer_hold_seconds >= LATE * 0.9
    assert end.provider_wait_seconds < LATE


def test_a_consumer_that_sleeps_before_its_first_pull_does_not_make_the_first_token_late() -> None:
    memory = InMemoryExporter()
    slept = 0.0

    async def main(agent: Agent[Any, Any]) -> None:
        nonlocal slept
        async with agent.iter(PROMPT) as agent_run:
            async for node in agent_run:
                if Agent.is_model_request_node(node):
                    async with node.stream(agent_run.ctx) as events:
                        before = time.monotonic()
                        await asyncio.sleep(LATE)
                        slept = time.monotonic() - before
                        async for _ in events:
                            pass

    with Sidecar(memory) as sidecar:
        asyncio.run(main(sidecar.observe(agent_of(["a", "b"]))))
    (end,) = of(memory.events, "llm_end")
    assert end.time_to_first_token_seconds["text"] < slept
    assert end.consumer_hold_seconds >= slept * 0.9


def test_a_provider_that_is_late_after_a_slow_consumer_is_late_all_the_same() -> None:
    async def dawdles(scene: Scene) -> None:
        await asyncio.sleep(LATE)

    end = _end([Think("h"), Pause(3 * LATE), "a"], mode="node.stream", act=dawdles)
    assert end.time_to_first_token_seconds["text"] >= 2 * LATE * 0.9
