"""End of runs: completed, error, cancelled, timed out, abandoned. Each line of the tables is a run played with and"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydantic_ai import Agent, CancellationToken, ModelResponse, RunContext, UsageLimits
from pydantic_ai.exceptions import ModelHTTPError, UsageLimitExceeded
from pydantic_ai.models.fallback import FallbackModel

from tests.support.caller_acts import (
    CallerError,
    breaks,
    breaks_while_stuck,
    cancels_at_once,
    cancels_when_stuck,
    is_cancelled,
    raises,
    raises_while_stuck,
)
from tests.support.consumption_modes import (
    ALL,
    EVENTS,
    MODES,
    STREAMED,
    TEXT,
    UI,
    WHOLE,
    Case,
    Play,
    check,
    lines_of,
    play,
)
from tests.support.run_outline import of
from tests.support.scripted_model import (
    FOREVER,
    Call,
    Fail,
    Pause,
    Scene,
    Step,
    Stuck,
    Think,
    Used,
    agent_of,
    scene,
    scripted,
)

pytestmark = pytest.mark.scenario_04

PULLED = ("run_stream_events", "node.stream", "override")
"""Modes whose caller's body receives pydantic-ai's events."""
BEHIND = ("run_stream_events", "override")
"""Modes whose run continues while the caller is busy with an event."""
ASYNC_WHOLE = ("run", "iter", "next")
ASYNC_STREAMED = (*EVENTS, "run_stream", *UI)


async def stuck_tool() -> str:
    """Wait endlessly."""
    await scene.get().wait()
    return "never"


async def add(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


ADD = Call("add", '{"x": 1}')


def text() -> Agent[Any, Any]:
    return agent_of([Think("hm"), "a", "b", "c", "d"])


def stuck() -> Agent[Any, Any]:
    return agent_of(["a", "b", Stuck(), "c"])


def in_tool() -> Agent[Any, Any]:
    return agent_of([Call("stuck_tool")], ["done"], tools=[stuck_tool])


def with_tool() -> Agent[Any, Any]:
    return agent_of([ADD], ["a", "b", "c"], tools=[add])


# --- the caller leaves ---------------------------------------------------------------------------------------------

LEAVING = [
    Case(
        "breaks out at the first item",
        Play(text, breaks, 1),
        {(*PULLED, *TEXT): "llm:interrupted~ abandoned", ("iter", "next"): "abandoned", UI: ""},
    ),
    Case(
        "breaks out in the middle of the answer",
        Play(text, breaks, 3),
        {
            (*PULLED, *TEXT, *UI): "llm:interrupted~ abandoned",
            ("iter",): "llm:ok abandoned",
            ("run+handler",): "llm:ok final completed",  # the handler has finished, the run continues
        },
    ),
    Case("breaks out at the last item", Play(text, breaks, 6), {TEXT: "llm:ok abandoned"}),
    Case(
        "breaks out while the provider is silent",
        Play(stuck, breaks_while_stuck, 3),
        {BEHIND: "llm:interrupted~ abandoned"},
    ),
    Case(
        "breaks out while the provider is silent, further on",
        Play(stuck, breaks_while_stuck, 5),
        {("vercel",): "llm:interrupted~ abandoned"},
    ),
    Case(
        "breaks out while a tool is running",
        Play(in_tool, breaks_while_stuck, 3),
        {BEHIND: "llm:ok stuck_tool:cancelled abandoned"},
    ),
    Case(
        "breaks out between tool and answer",
        Play(with_tool, breaks, 4),
        {PULLED: "llm:ok add:ok abandoned", TEXT: "llm:ok add:ok llm:interrupted~ abandoned"},
    ),
    Case("raises at the first item", Play(text, raises, 1), {(*PULLED, *TEXT): "llm:interrupted~ abandoned"}),
    Case(
        "raises in the middle of the answer",
        Play(text, raises, 3),
        {
            (*PULLED, *TEXT, *UI): "llm:interrupted~ abandoned",
            ("iter", "next"): "llm:ok abandoned",
            ("run+handler",): "llm:cancelled~ error:run:CallerError error",  # raised inside the run
        },
    ),
    Case(
        "raises while the provider is silent",
        Play(stuck, raises_while_stuck, 3),
        {BEHIND: "llm:interrupted~ abandoned"},
    ),
    Case(
        "raises while a tool is running",
        Play(in_tool, raises_while_stuck, 3),
        {BEHIND: "llm:ok stuck_tool:cancelled abandoned"},
    ),
]


@pytest.mark.scenario_03
@lines_of(LEAVING)
def test_a_caller_that_leaves_abandons_the_run(what: Play, mode: str, log: str) -> None:
    events = check(what, mode, log)
    if "abandoned" in log:
        assert of(events, "error") == [], "nothing and nobody failed"
        assert all(data.error is None for data in of(events, "llm_end"))


@pytest.mark.parametrize("mode", [*PULLED, *TEXT, "iter", "next"])
def test_the_callers_own_exception_comes_back_as_it_was(mode: str) -> None:
    assert play(Play(text, raises, 2), mode).error[0][:2] == (CallerError.__qualname__, "the caller's own")


# --- the caller's task is cancelled, or its time is up ---------------------------------------------------------------


class _Token:
    """A new cancellation token for each run, cancelled by another task."""

    token: CancellationToken

    def ask(self) -> Mapping[str, Any]:
        self.token = CancellationToken()
        return {"cancellation_token": self.token}

    async def pull(self, scene: Scene) -> None:
        await scene.until_stuck()
        self.token.cancel()


WAITED_FOR = ("run_stream", "run_stream_events", "node.stream", "ag_ui")
"""Slow calls: the deadline of a run must leave a busy machine enough time to reach the wait."""


def _brief() -> Mapping[str, Any]:
    return {"timeout": 0.4}


CANCELLED = [
    Case("cancelled before it begins", Play(text, beside=cancels_at_once), {(*ASYNC_WHOLE, *ASYNC_STREAMED): ""}),
    Case(
        "cancelled before the first chunk",
        Play(lambda: agent_of([Stuck()]), beside=cancels_when_stuck),
        {(*ASYNC_WHOLE, *ASYNC_STREAMED): "llm:cancelled cancelled"},
    ),
    Case(
        "cancelled in the middle of the answer",
        Play(stuck, beside=cancels_when_stuck),
        {ASYNC_WHOLE: "llm:cancelled cancelled", ASYNC_STREAMED: "llm:cancelled~ cancelled"},
    ),
    Case(
        "cancelled in its own body",
        Play(text, is_cancelled, 2),
        {
            (*EVENTS, "run_stream"): "llm:cancelled~ cancelled",
            UI: "llm:interrupted~ abandoned",  # the body is outside of the run, whose events are then closed
            ("next",): "llm:ok cancelled",
        },
    ),
    Case(
        "cancelled in a tool",
        Play(in_tool, beside=cancels_when_stuck),
        {(*ASYNC_WHOLE, *ASYNC_STREAMED): "llm:ok stuck_tool:cancelled cancelled"},
    ),
    Case(
        "cancelled by a token",
        Play(stuck, beside=(_token := _Token()).pull, ask=_token.ask),
        {ASYNC_WHOLE: "llm:cancelled cancelled", ASYNC_STREAMED: "llm:cancelled~ cancelled"},
    ),
    Case(
        "cancelled by a token, in a tool",
        Play(in_tool, beside=(_token := _Token()).pull, ask=_token.ask),
        {(*ASYNC_WHOLE, *ASYNC_STREAMED): "llm:ok stuck_tool:cancelled cancelled"},
    ),
    Case(
        "out of its own time",
        Play(stuck, ask=_brief),
        {("run", "run_sync"): "llm:cancelled timed_out", WAITED_FOR: "llm:cancelled~ timed_out"},
    ),
    Case(
        "out of its own time, in a tool",
        Play(in_tool, ask=_brief),
        {WAITED_FOR: "llm:ok stuck_tool:cancelled timed_out"},
    ),
]


@pytest.mark.scenario_02
@lines_of(CANCELLED)
def test_a_run_that_is_cancelled_says_so(what: Play, mode: str, log: str) -> None:
    events = check(what, mode, log)
    assert of(events, "error") == [], "nobody failed"


async def _when_stuck(cancel: Callable[[], None]) -> None:
    await scene.get().until_stuck()
    cancel()


@pytest.mark.parametrize("mode", [*ASYNC_WHOLE, *ASYNC_STREAMED])
@pytest.mark.parametrize("agent", [stuck, in_tool])
def test_a_run_under_asyncio_timeout_is_timed_out(mode: str, agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = MODES[mode]

    async def in_time(*args: Any) -> Any:
        async with asyncio.timeout(None) as limit:
            now = asyncio.get_running_loop().time
            helper = asyncio.create_task(_when_stuck(lambda: limit.reschedule(now())))
            try:
                return await inner(*args)
            finally:
                helper.cancel()

    monkeypatch.setitem(MODES, mode, in_time)
    answer = "llm:cancelled" if mode in ASYNC_WHOLE else "llm:cancelled~"
    check(Play(agent), mode, f"{answer if agent is stuck else 'llm:ok stuck_tool:cancelled'} timed_out")
    assert play(Play(agent), mode).error[0][0] == "TimeoutError"


async def _cancels_iter(agent: Agent[Any, Any], ask: Mapping[str, Any], on_item: Any) -> None:
    async with agent.iter("?", **ask) as agent_run:
        async with asyncio.TaskGroup() as group:
            group.create_task(_when_stuck(agent_run.cancel))
            async for node in agent_run:
                await on_item(type(node).__name__)


async def _cancels_node_stream(agent: Agent[Any, Any], ask: Mapping[str, Any], on_item: Any) -> None:
    async with agent.iter("?", **ask) as agent_run:
        helper = asyncio.create_task(_when_stuck(agent_run.cancel))
        async for node in agent_run:
            if Agent.is_model_request_node(node):
                async with node.stream(agent_run.ctx) as events:
                    async for event in events:
                        await on_item(event)
        await helper


async def _cancels_events(agent: Agent[Any, Any], ask: Mapping[str, Any], on_item: Any) -> None:
    async with agent.run_stream_events("?", **ask) as events:
        helper = asyncio.create_task(_when_stuck(events.cancel))
        async for event in events:
            await on_item(event)
        await helper


@pytest.mark.parametrize(
    ("consume", "log"),
    [
        (_cancels_iter, "llm:cancelled cancelled"),
        (_cancels_node_stream, "llm:cancelled~ cancelled"),
        (_cancels_events, "llm:cancelled~ cancelled"),
    ],
)
def test_a_run_cancelled_through_its_handle_is_cancelled(
    consume: Any, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODES, "by its handle", consume)
    check(Play(stuck), "by its handle", log)
    assert play(Play(stuck), "by its handle").error[0][0] in ("RunCancelled", "ExceptionGroup", "BaseExceptionGroup")


def test_a_run_cancelled_by_its_own_tool_is_cancelled() -> None:
    async def stops(ctx: RunContext[Any]) -> str:
        ctx.cancel()
        await asyncio.sleep(FOREVER)
        return "never"

    what = Play(lambda: agent_of([Call("stops")], ["b"], tools=[stops]))
    check(what, "run", "llm:ok stops:cancelled cancelled")
    check(what, "run_stream_events", "llm:ok stops:cancelled cancelled")


# --- the model, or a limit, stops the run ----------------------------------------------------------------------------


def _dead() -> Exception:
    return ConnectionError("the line is dead")


def _unavailable() -> Exception:
    return ModelHTTPError(503, "function:0", {"message": "later"})


def fallback(*answers: list[Step]) -> Play:
    """Fallback model over models with `answers`."""
    return Play(
        lambda: agent_of(model=FallbackModel(*[scripted(each, name=f"function:{i}") for i, each in enumerate(answers)]))
    )


FAILING = [
    Case(
        "the model fails before the first chunk",
        Play(lambda: agent_of([Fail(_dead)])),
        {ALL: "error:model:ConnectionError llm:error error"},
    ),
    Case(
        "the model fails in the middle of the answer",
        Play(lambda: agent_of(["a", "b", Fail(_dead)])),
        {
            WHOLE: "error:model:ConnectionError llm:error error",
            STREAMED: "error:model:ConnectionError llm:error~ error",
        },
    ),
    Case(
        "the model fails after a tool",
        Play(lambda: agent_of([ADD], ["a", Fail(_dead)], tools=[add])),
        {
            WHOLE: "llm:ok add:ok error:model:ConnectionError llm:error error",
            STREAMED: "llm:ok add:ok error:model:ConnectionError llm:error~ error",
        },
    ),
    Case(
        "a limit forbids the next request",
        Play(with_tool, ask=lambda: {"usage_limits": UsageLimits(request_limit=1)}),
        {ALL: "llm:ok add:ok error:run:UsageLimitExceeded error"},
    ),
    Case(
        "a limit is passed by the answer",
        Play(
            lambda: agent_of(["a ", "b ", "c ", "d "]),
            ask=lambda: {"usage_limits": UsageLimits(output_tokens_limit=2)},
        ),
        {
            WHOLE: "llm:ok error:run:UsageLimitExceeded error",
            STREAMED: "llm:cancelled~ error:run:UsageLimitExceeded error",  # not an error of the provider
        },
    ),
    Case(
        "a limit forbids the tools",
        Play(
            lambda: agent_of([ADD, Call("add", '{"x": 2}', "call-2")], ["a"], tools=[add]),
            ask=lambda: {"usage_limits": UsageLimits(tool_calls_limit=1)},
        ),
        {ALL: "llm:ok error:run:UsageLimitExceeded error"},
    ),
    Case(
        "the first model fails, the second answers",
        fallback([Fail(_unavailable)], ["b"]),
        {ALL: "llm:ok final completed"},
    ),
    Case(
        "both models fail",
        fallback([Fail(_unavailable)], [Fail(_unavailable)]),
        {ALL: "error:model:FallbackExceptionGroup llm:error error"},
    ),
    Case(
        "the first model fails in the middle of the answer",
        fallback(["a", Fail(_unavailable)], ["b"]),
        {WHOLE: "llm:ok final completed", STREAMED: "error:model:ModelHTTPError llm:error~ error"},
    ),
]


@lines_of(FAILING)
def test_a_run_that_fails_says_where(what: Play, mode: str, log: str) -> None:
    events = check(what, mode, log)
    for data in of(events, "error"):
        assert data.error
        assert data.exception_type.rpartition(".")[2] in log
    if UsageLimitExceeded.__name__ in log:
        assert all(data.error is None for data in of(events, "llm_end"))


def _is_bad(response: ModelResponse) -> bool:
    return response.text == "bad"


def _rejecting(*answers: list[Step]) -> Play:
    """Fallback model that rejects bad answers."""

    def make() -> Agent[Any, Any]:
        models = [scripted(each, name=f"function:{i}") for i, each in enumerate(answers)]
        return agent_of(model=FallbackModel(*models, fallback_on=[_is_bad]))

    return Play(make)


@pytest.mark.parametrize("mode", WHOLE)
def test_an_answer_that_a_fallback_model_rejects_is_paid_for(mode: str) -> None:
    events = check(_rejecting(["bad", Used(10, 5)], ["b", Used(3, 2)]), mode, "llm:ok final completed")
    (end,) = of(events, "llm_end")
    (attempt,) = end.failed_attempts
    assert (attempt.model, attempt.outcome) == ("function:0", "rejected")
    assert (attempt.usage.input_tokens, attempt.usage.output_tokens) == (10, 5)
    assert (end.usage.input_tokens, end.usage.output_tokens) == (3, 2)
    (total,) = of(events, "agent_end")
    assert (total.usage.input_tokens, total.usage.output_tokens) == (13, 7)


@pytest.mark.parametrize("mode", WHOLE)
def test_answers_that_a_fallback_model_rejects_to_the_last_are_paid_for(mode: str) -> None:
    what = _rejecting(["bad", Used(10, 5)], ["bad", Used(3, 2)])
    events = check(what, mode, "error:model:FallbackExceptionGroup llm:error error")
    (end,) = of(events, "llm_end")
    assert [attempt.outcome for attempt in end.failed_attempts] == ["rejected", "rejected"]
    (total,) = of(events, "agent_end")
    assert (total.usage.input_tokens, total.usage.output_tokens) == (13, 7)


def test_a_slow_model_is_waited_for() -> None:
    check(Play(lambda: agent_of([Pause(0.01), "a", Pause(0.01), "b"])), "run_stream_events", "llm:ok final completed")
