"""Random programs with and without a sidecar: the views of caller, model and process are the same, and the log is"""

from __future__ import annotations

import asyncio
import gc
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from pydantic_ai import Agent, ModelRetry, ToolFailed, UsageLimits

from tests.support.caller_acts import breaks, is_cancelled, raises
from tests.support.consumption_modes import EVENTS, Play, play_both
from tests.support.run_outline import assert_answers, assert_pieces, of
from tests.support.scripted_model import Call, Fail, Step, Think, agent_of

pytestmark = pytest.mark.scenario_07

EXAMPLES = int(os.environ.get("SIDESTREAM_DIFFERENTIAL_EXAMPLES", "15"))
MODES = ["run", "run+handler", "run_stream", "run_stream_events", "iter", "next", "node.stream", "ag_ui"]


class ProviderError(Exception):
    """Exception of the provider."""


# --- tools, by what they do ------------------------------------------------------------------------------------------


async def returns(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


async def has_a_bug(x: int) -> int:
    raise ValueError("a bug")


async def asks_again(x: int) -> int:
    raise ModelRetry("again")


async def fails(x: int) -> int:
    raise ToolFailed("no luck")


TOOLS = [returns, has_a_bug, asks_again, fails]
NAMES = [*(tool.__name__ for tool in TOOLS), "returns", "returns", "no_such_tool"]

# --- programs --------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
calls = st.builds(
    lambda name, args, pieces: Call(name, args, pieces=pieces),
    st.sampled_from(NAMES),
    st.sampled_from(['{"x": 1}', '{"x": 2}', '{"x": "many"}', '{"x"', "{}"]),
    st.integers(1, 3),
)
steps: st.SearchStrategy[Step] = st.one_of(
    texts, texts, st.builds(Think, texts), calls, st.just(Fail(lambda: ProviderError("the line is dead")))
)
answers = st.lists(st.lists(steps, min_size=1, max_size=5), min_size=1, max_size=4)


def _with_ids(answer: list[Step], number: int) -> list[Step]:
    """One call per answer, each with a unique id, because concurrent calls end in any order."""
    kept: list[Step] = []
    for step in answer:
        if not isinstance(step, Call):
            kept.append(step)
        elif not any(isinstance(other, Call) for other in kept):
            kept.append(Call(step.tool, step.args, f"call-{number}", step.pieces))
    return kept


@st.composite
def programs(draw: st.DrawFn) -> Play:
    """Agent, its model and its caller."""
    said = [_with_ids(answer, number) for number, answer in enumerate(draw(answers))]
    act = draw(st.sampled_from([None, None, breaks, raises, is_cancelled]))
    limit = draw(st.sampled_from([None, None, UsageLimits(request_limit=2), UsageLimits(output_tokens_limit=4)]))
    retries = draw(st.integers(0, 2))
    note(f"model says {said}, caller: {act and act.__name__}, {limit}, {retries} retries")
    refused = draw(st.sampled_from([None, None, "a", ""]))

    def make() -> Agent[Any, Any]:
        agent = agent_of(*said, tools=TOOLS, retries=retries)
        if refused is not None:

            @agent.output_validator
            def refuse(output: str) -> str:
                if output.startswith(refused):
                    raise ModelRetry("another one")
                return output

        return agent

    return Play(make, act, draw(st.integers(1, 8)), ask=lambda: {"usage_limits": limit or UsageLimits(request_limit=8)})


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs())
def test_any_program_is_the_same_with_a_sidecar(mode: str, program: Play) -> None:
    gc.freeze()
    observed, events = play_both(program, mode)
    if not events:
        return
    assert_answers(events, observed.history)
    asked = ["stream" if data.streaming else "request" for data in of(events, "llm_start")]
    assert asked == observed.calls
    if mode in EVENTS and not (mode == "run+handler" and program.act is not None):
        # A handler that leaves one answer still receives the next, so its items are not a prefix.
        assert_pieces(events, observed.pieces)
