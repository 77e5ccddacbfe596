"""Outcomes of tool calls and outputs: accepted, refused, retried, deferred. Each line of the tables is a run played
with and without a sidecar in the named modes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    ApprovalRequired,
    CallDeferred,
    DeferredToolRequests,
    DeferredToolResults,
    ExternalToolset,
    ModelRequest,
    ModelResponse,
    ModelRetry,
    NativeOutput,
    PromptedOutput,
    RunContext,
    TextOutput,
    Tool,
    ToolApproved,
    ToolCallPart,
    ToolDefinition,
    ToolDenied,
    ToolFailed,
    UserPromptPart,
)

from tests.support.consumption_modes import ALL, EVENTS, TEXT, UI, WHOLE, Case, Play, check, lines_of
from tests.support.run_outline import of
from tests.support.scripted_model import Call, agent_of, scene

pytestmark = [pytest.mark.scenario_01, pytest.mark.scenario_04]

BUT_TEXT = (*WHOLE, *EVENTS, *UI)
"""All modes except `run_stream()`, which ends with the first output."""

ARGS = '{"x": 1}'
ANSWERED = ["b"]


# --- tools ---------------------------------------------------------------------------------------------------------


async def add(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


def add_in_thread(x: int) -> int:
    return x + 1


def in_turn(x: int) -> Any:
    async def wait() -> int:
        turns = scene.get().turns
        if x > 1:
            await turns[x - 1].wait()
        for _ in range(50):  # long enough to complete in different iterations
            await asyncio.sleep(0)
        turns[x].set()
        return x

    return wait()


async def bug(x: int) -> int:
    raise ValueError("a bug")


async def once(ctx: RunContext[Any], x: int) -> int:
    if ctx.retry == 0:
        raise ModelRetry("once more")
    return x


async def never(x: int) -> int:
    raise ModelRetry("once more")


async def fails(x: int) -> int:
    raise ToolFailed("no luck")


async def defers(x: int) -> int:
    raise CallDeferred


async def asks(x: int) -> int:
    raise ApprovalRequired


def calling(tool: Any, *more: Any, args: str = ARGS) -> Play:
    """Model that calls `tool`, and then answers; with `more` answers in between."""
    name = tool if isinstance(tool, str) else tool.__name__
    tools = [add] if isinstance(tool, str) else [tool]
    return Play(lambda: agent_of([Call(name, args)], *more, ANSWERED, tools=tools))


def deferring(*calls: Call, **settings: Any) -> Play:
    """Run that may end with deferred tools."""
    return Play(lambda: agent_of(calls, ANSWERED, output_type=[str, DeferredToolRequests], **settings))


def resumed(results: DeferredToolResults) -> Play:
    """Run that continues with `results` of the deferred call."""

    def ask() -> Mapping[str, Any]:
        call = ToolCallPart("add", ARGS, tool_call_id="call-1")
        history = [ModelRequest(parts=[UserPromptPart("What shall it be?")]), ModelResponse(parts=[call])]
        return {"message_history": history, "deferred_tool_results": results}

    tool = Tool(add, requires_approval=True)
    return Play(lambda: agent_of([], ANSWERED, tools=[tool], output_type=[str, DeferredToolRequests]), ask=ask)


EXTERNAL = ExternalToolset[Any]([ToolDefinition(name="far", parameters_json_schema={"type": "object"})])

TOOLS = [
    Case("returns", calling(add), {ALL: "llm:ok add:ok llm:ok final completed"}),
    Case("returns, from a thread", calling(add_in_thread), {ALL: "llm:ok add_in_thread:ok llm:ok final completed"}),
    Case(
        "parallel, the last call done first",
        Play(
            lambda: agent_of(
                [Call("in_turn", f'{{"x": {3 - i}}}', f"call-{i}") for i in range(3)], ANSWERED, tools=[in_turn]
            )
        ),
        {ALL: "llm:ok in_turn:ok in_turn:ok in_turn:ok llm:ok final completed"},
    ),
    Case("has a bug", calling(bug), {ALL: "llm:ok bug:failed error:tool:ValueError error"}),
    Case("says it failed", calling(fails), {ALL: "llm:ok fails:failed llm:ok final completed"}),
    Case(
        "asks for a retry, once",
        calling(once, [Call("once", ARGS, "call-2")]),
        {ALL: "llm:ok once:retry retry:model_retry llm:ok once:ok llm:ok final completed"},
    ),
    Case(
        "asks for a retry, always",
        calling(never, [Call("never", ARGS, "call-2")]),
        {ALL: "llm:ok never:retry retry:model_retry llm:ok never:failed error:tool:UnexpectedModelBehavior error"},
    ),
    Case(
        "is given invalid arguments, once",
        calling(add, [Call("add", ARGS, "call-2")], args='{"x": "many"}'),
        {ALL: "llm:ok add:invalid retry:validation_error llm:ok add:ok llm:ok final completed"},
    ),
    Case(
        "is given invalid arguments, always",
        calling(add, [Call("add", "{}", "call-2")], args="{}"),
        {ALL: "llm:ok add:invalid retry:validation_error llm:ok add:invalid error:run:UnexpectedModelBehavior error"},
    ),
    Case(
        "is given no JSON",
        calling(add, [Call("add", ARGS, "call-2")], args='{"x": '),
        {ALL: "llm:ok add:invalid retry:validation_error llm:ok add:ok llm:ok final completed"},
    ),
    Case("is unknown", calling("nope"), {ALL: "llm:ok nope:unknown retry:unknown_tool llm:ok final completed"}),
    Case("defers", deferring(Call("defers", ARGS), tools=[defers]), {ALL: "llm:ok defers:deferred final completed"}),
    Case(
        "asks for approval", deferring(Call("asks", ARGS), tools=[asks]), {ALL: "llm:ok asks:deferred final completed"}
    ),
    Case(
        "requires approval",
        deferring(Call("add", ARGS), tools=[Tool(add, requires_approval=True)]),
        {ALL: "llm:ok add:deferred final completed"},
    ),
    Case("is external", deferring(Call("far"), toolsets=[EXTERNAL]), {ALL: "llm:ok far:deferred final completed"}),
    Case(
        "one of two requires approval",
        deferring(
            Call("add", ARGS), Call("in_turn", ARGS, "call-2"), tools=[Tool(add, requires_approval=True), in_turn]
        ),
        {
            BUT_TEXT: "llm:ok in_turn:ok add:deferred final completed",
            TEXT: "in_turn:ok llm:ok add:deferred final completed",
        },
    ),
    Case(
        "approved",
        resumed(DeferredToolResults(approvals={"call-1": True})),
        {ALL: "add:ok llm:ok final completed"},
    ),
    Case(
        "approved, with other arguments",
        resumed(DeferredToolResults(approvals={"call-1": ToolApproved(override_args={"x": 5})})),
        {ALL: "add:ok llm:ok final completed"},
    ),
    Case(
        "denied",
        resumed(DeferredToolResults(approvals={"call-1": ToolDenied("no")})),
        {ALL: "add:denied llm:ok final completed"},
    ),
    Case(
        "done elsewhere",
        resumed(DeferredToolResults(calls={"call-1": 2})),
        {ALL: "llm:ok final completed"},  # no tool ran here
    ),
]


@lines_of(TOOLS)
def test_a_tool_call(what: Play, mode: str, log: str) -> None:
    check(what, mode, log)


def test_an_unknown_tool_that_ends_the_run_is_an_error() -> None:
    what = Play(lambda: agent_of([Call("nope")]))
    events = check(
        what,
        "run",
        "llm:ok nope:unknown retry:unknown_tool llm:ok nope:unknown error:run:UnexpectedModelBehavior error",
    )
    assert "nope" in of(events, "error")[0].error


def test_arguments_results_and_attempts_are_in_the_log() -> None:
    events = check(TOOLS[5].play, "run", TOOLS[5].logs[ALL])
    first, second = of(events, "tool_start")
    assert (first.args, first.attempt, first.tool_call_id) == ({"x": 1}, 1, "call-1")
    assert (second.args, second.attempt, second.tool_call_id) == ({"x": 1}, 2, "call-2")
    (retry,) = of(events, "retry")
    assert (retry.tool_name, retry.tool_call_id, retry.attempt, retry.max_attempts) == ("once", "call-1", 1, 1)
    assert "once more" in retry.message
    assert [data.result for data in of(events, "tool_end")] == [None, 1]


def test_an_approved_call_runs_with_the_arguments_it_was_given() -> None:
    case = next(case for case in TOOLS if case.name == "approved, with other arguments")
    events = check(case.play, "run", case.logs[ALL])
    assert (of(events, "tool_start")[0].args, of(events, "tool_end")[0].result) == ({"x": 5}, 6)


# --- outputs -------------------------------------------------------------------------------------------------------


class City(BaseModel):
    name: str
    size: int


class Town(BaseModel):
    mayor: str


CITY = '{"name": "Oslo", "size": 1}'
OUTPUT = Call("final_result", CITY, pieces=3)
AGAIN = Call("final_result", CITY, "call-2")


def named(city: City) -> str:
    return city.name


def named_at_last(ctx: RunContext[Any], city: City) -> str:
    if ctx.retry == 0:
        raise ModelRetry("another one")
    return city.name


def misnamed(city: City) -> str:
    raise ValueError("a bug")


def words(text: str) -> list[str]:
    return text.split()


def validated(refuses: Any) -> Play:
    """Run with the answers `a` and `b` in front of a validator."""

    def make() -> Agent[Any, Any]:
        agent = agent_of(["a"], ["b"])

        @agent.output_validator
        def validate(output: str) -> str:
            if refuses(output):
                raise ModelRetry("another one")
            return output

        return agent

    return Play(make)


def _raises(output: str) -> bool:
    raise ValueError("a bug")


REFUSED_IN_RUN_STREAM = "llm:cancelled~ error:run:UnexpectedModelBehavior error"
"""`run_stream()` cannot ask the model again, and pydantic-ai has cut the answer off by then."""

OUTPUTS = [
    Case("text", Play(lambda: agent_of(["a", "b"])), {ALL: "llm:ok final completed"}),
    Case("by a tool", Play(lambda: agent_of([OUTPUT], output_type=City)), {ALL: "llm:ok final completed"}),
    Case(
        "by the model's own JSON",
        Play(lambda: agent_of([CITY[:9], CITY[9:]], output_type=NativeOutput(City))),
        {ALL: "llm:ok final completed"},
    ),
    Case(
        "by a prompt",
        Play(lambda: agent_of([CITY[:9], CITY[9:]], output_type=PromptedOutput(City))),
        {ALL: "llm:ok final completed"},
    ),
    Case(
        "one of a union",
        Play(lambda: agent_of([Call("final_result_Town", '{"mayor": "Ann"}')], output_type=[City, Town])),
        {ALL: "llm:ok final completed"},
    ),
    Case("text of a union", Play(lambda: agent_of(["a"], output_type=[City, str])), {ALL: "llm:ok final completed"}),
    Case("of a function", Play(lambda: agent_of([OUTPUT], output_type=named)), {ALL: "llm:ok final completed"}),
    Case(
        "of a function of text",
        Play(lambda: agent_of(["a b"], output_type=TextOutput(words))),
        {ALL: "llm:ok final completed"},
    ),
    Case(
        "beside a tool",
        Play(lambda: agent_of([Call("add", ARGS), AGAIN], output_type=City, tools=[add])),
        {BUT_TEXT: "llm:ok add:ok final completed", TEXT: "add:ok llm:ok final completed"},
    ),
    Case(
        "invalid once",
        Play(lambda: agent_of([Call("final_result", "{}")], [AGAIN], output_type=City)),
        {BUT_TEXT: "llm:ok retry:validation_error llm:ok final completed", TEXT: REFUSED_IN_RUN_STREAM},
    ),
    Case(
        "invalid always",
        Play(lambda: agent_of([Call("final_result", "{}")], output_type=City)),
        {
            BUT_TEXT: "llm:ok retry:validation_error llm:ok error:run:UnexpectedModelBehavior error",
            TEXT: REFUSED_IN_RUN_STREAM,
        },
    ),
    Case(
        "the model's own JSON, invalid once",
        Play(lambda: agent_of(["{}"], [CITY], output_type=NativeOutput(City))),
        {BUT_TEXT: "llm:ok retry:validation_error llm:ok final completed", TEXT: REFUSED_IN_RUN_STREAM},
    ),
    Case(
        "refused once by a function",
        Play(lambda: agent_of([OUTPUT], [AGAIN], output_type=named_at_last)),
        {BUT_TEXT: "llm:ok retry:model_retry llm:ok final completed", TEXT: REFUSED_IN_RUN_STREAM},
    ),
    Case(
        "a bug in its function",
        Play(lambda: agent_of([OUTPUT], output_type=misnamed)),
        {
            BUT_TEXT: "llm:ok error:output:ValueError error",
            TEXT: "error:output:ValueError llm:cancelled~ error",
        },
    ),
    Case(
        "refused once by a validator",
        validated(lambda output: output == "a"),
        {BUT_TEXT: "llm:ok retry:model_retry llm:ok final completed", TEXT: REFUSED_IN_RUN_STREAM},
    ),
    Case(
        "refused always by a validator",
        validated(lambda output: True),
        {
            BUT_TEXT: "llm:ok retry:model_retry llm:ok error:run:UnexpectedModelBehavior error",
            TEXT: REFUSED_IN_RUN_STREAM,
        },
    ),
    Case(
        "a bug in its validator",
        validated(_raises),
        {
            BUT_TEXT: "llm:ok error:output:ValueError error",
            TEXT: "error:output:ValueError llm:cancelled~ error",
        },
    ),
    Case(
        "none at first",
        Play(lambda: agent_of([""], ["b"])),
        {BUT_TEXT: "llm:ok retry:no_output llm:ok final completed", TEXT: "llm:ok final completed"},
    ),
    Case(
        "none at all",
        Play(lambda: agent_of([""])),
        {BUT_TEXT: "llm:ok retry:no_output llm:ok error:run:UnexpectedModelBehavior error"},
    ),
]


@lines_of(OUTPUTS)
def test_an_output(what: Play, mode: str, log: str) -> None:
    check(what, mode, log)


@pytest.mark.parametrize("mode", ALL)
def test_the_output_is_in_the_log(mode: str) -> None:
    (final,) = of(
        check(Play(lambda: agent_of([OUTPUT], output_type=City)), mode, "llm:ok final completed"), "final_result"
    )
    assert (final.output_type, final.output) == ("City", {"name": "Oslo", "size": 1})
