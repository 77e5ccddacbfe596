"""Nested and concurrent runs: each has its own log and its parent, and is billed once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pydantic_ai import Agent, AgentRunResultEvent, ModelRetry, RunContext

from sidestream import InMemoryExporter, Sidecar
from sidestream.events import StreamEvent
from tests.support.caller_acts import breaks
from tests.support.consumption_modes import PROMPT, Observe, Play, assert_settled, check
from tests.support.run_outline import assert_whole, by_run, of, outline
from tests.support.scripted_model import Call, Stuck, Used, agent_of, scripted

pytestmark = pytest.mark.scenario_06

PRICED = "gpt-4o"
"""Model with a price in the offline list."""


def parent_of(tool: Callable[..., Any], *calls: Call, **settings: Any) -> Agent[Any, Any]:
    """Agent that calls `tool`, and then answers."""
    model = scripted([Used(100, 10), *calls], [Used(200, 20), "so be it"], name=PRICED)
    return agent_of(model=model, name="parent", tools=[tool], **settings)


def child_of(*answers: Any, name: str = "child") -> Agent[Any, Any]:
    return agent_of(model=scripted(*answers or ([Used(7, 3), "done"],), name=PRICED), name=name)


def observed(main: Callable[[Observe], Coroutine[Any, Any, Any]]) -> list[StreamEvent]:
    """Log of the runs in `main` with the observed agents."""
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        asyncio.run(main(sidecar.observe))
        assert_settled(sidecar)
    for run in by_run(memory.events):
        assert_whole(run)
    return memory.events


def start_of(run: list[StreamEvent]) -> Any:
    return run[0].data


def end_of(run: list[StreamEvent]) -> Any:
    return run[-1].data


def named(events: list[StreamEvent], name: str) -> list[list[StreamEvent]]:
    return [run for run in by_run(events) if run[0].agent_name == name]


@pytest.mark.parametrize("shared_usage", [True, False])
@pytest.mark.parametrize("mode", ["run", "run_sync", "run_stream", "run_stream_events"])
def test_an_agent_called_by_a_tool_knows_the_call_and_is_paid_for_once(mode: str, shared_usage: bool) -> None:
    async def main(observe: Observe) -> None:
        child = observe(child_of())

        async def delegate(ctx: RunContext[Any]) -> str:
            usage: dict[str, Any] = {"usage": ctx.usage} if shared_usage else {}
            match mode:
                case "run":
                    return str((await child.run(PROMPT, **usage)).output)
                case "run_sync":
                    return await asyncio.to_thread(lambda: str(child.run_sync(PROMPT, **usage).output))
                case "run_stream":
                    async with child.run_stream(PROMPT, **usage) as result:
                        return str(await result.get_output())
                case _:
                    async with child.run_stream_events(PROMPT, **usage) as events:
                        *_, last = [event async for event in events]
                        assert isinstance(last, AgentRunResultEvent)
                        return str(last.result.output)

        await observe(parent_of(delegate, Call("delegate"))).run(PROMPT)

    parent, child = by_run(observed(main))
    start = start_of(child)
    assert (start.parent_run_id, start.root_run_id) == (parent[0].run_id, parent[0].run_id)
    assert (start.parent_tool_call_id, start.parent_link) == ("call-1", "tool")
    assert start.trace_id == start_of(parent).trace_id
    assert start_of(parent).parent_run_id is None
    own, its = end_of(parent), end_of(child)
    assert (own.usage.input_tokens, own.usage.output_tokens) == (300, 30)
    assert own.sub_agents == 1
    assert own.usage_with_children.input_tokens == 300 + its.usage.input_tokens
    assert own.usage_with_children.output_tokens == 30 + its.usage.output_tokens
    assert own.cost_usd > 0
    assert own.cost_usd_with_children == pytest.approx(own.cost_usd + (its.cost_usd or 0))
    assert its.usage_with_children is None


def test_agents_called_by_parallel_tools_know_each_its_own_call() -> None:
    async def main(observe: Observe) -> None:
        child = observe(child_of())

        async def delegate(wait: float) -> str:
            await asyncio.sleep(wait)
            return str((await child.run(f"wait {wait}")).output)

        calls = [Call("delegate", f'{{"wait": {(3 - i) / 100}}}', f"call-{i}") for i in range(3)]
        await observe(parent_of(delegate, *calls)).run(PROMPT)

    events = observed(main)
    children = named(events, "child")
    found = {start_of(child).parent_tool_call_id: start_of(child).prompt for child in children}
    assert found == {"call-0": "wait 0.03", "call-1": "wait 0.02", "call-2": "wait 0.01"}
    (parent,) = named(events, "parent")
    assert {start_of(child).parent_run_id for child in children} == {parent[0].run_id}
    end = end_of(parent)
    assert end.sub_agents == 3
    assert end.usage_with_children.input_tokens == 300 + 3 * 7
    assert end.cost_usd_with_children == pytest.approx(end.cost_usd + sum(end_of(child).cost_usd for child in children))


def test_three_generations_have_one_root_one_trace_and_one_bill() -> None:
    async def main(observe: Observe) -> None:
        grandchild = observe(child_of(name="grandchild"))

        async def ask_grandchild() -> str:
            return str((await grandchild.run(PROMPT)).output)

        child = observe(parent_of(ask_grandchild, Call("ask_grandchild", id="inner")))
        child.name = "child"

        async def ask_child() -> str:
            return str((await child.run(PROMPT)).output)

        await observe(parent_of(ask_child, Call("ask_child", id="outer"))).run(PROMPT)

    events = observed(main)
    (parent,), (child,), (grandchild,) = (named(events, name) for name in ("parent", "child", "grandchild"))
    assert {start_of(run).root_run_id for run in (parent, child, grandchild)} == {parent[0].run_id}
    assert len({start_of(run).trace_id for run in (parent, child, grandchild)}) == 1
    assert (start_of(grandchild).parent_run_id, start_of(grandchild).parent_tool_call_id) == (child[0].run_id, "inner")
    assert end_of(child).usage_with_children.input_tokens == 300 + 7
    assert end_of(parent).usage_with_children.input_tokens == 300 + 300 + 7
    assert end_of(parent).usage.input_tokens == 300


def test_what_a_sub_agent_used_before_it_failed_is_paid_for() -> None:
    def boom() -> str:
        raise ValueError("a bug")

    async def main(observe: Observe) -> None:
        child = observe(agent_of(model=scripted([Used(7, 3), Call("boom")], name=PRICED), name="child", tools=[boom]))

        async def delegate() -> str:
            try:
                return str((await child.run(PROMPT)).output)
            except ValueError:
                raise ModelRetry("the child failed") from None

        parent = parent_of(delegate, Call("delegate"))
        await observe(parent).run(PROMPT)

    parent, child = by_run(observed(main))
    assert outline(child) == "llm:ok boom:failed error:tool:ValueError error"
    assert outline(parent) == "llm:ok delegate:retry retry:model_retry llm:ok final completed"
    assert end_of(parent).usage_with_children.input_tokens == 300 + 7


def test_a_tool_that_leaves_its_sub_agent_abandons_that_one_alone() -> None:
    async def main(observe: Observe) -> None:
        child = observe(agent_of(["a", "b", Stuck()], name="child"))

        async def delegate() -> str:
            async with child.run_stream(PROMPT) as result:
                async for text in result.stream_text(debounce_by=None):
                    return text
            return ""

        await observe(parent_of(delegate, Call("delegate"))).run(PROMPT)

    parent, child = by_run(observed(main))
    assert outline(child) == "llm:interrupted~ abandoned"
    assert outline(parent) == "llm:ok delegate:ok llm:ok final completed"


def test_a_cancelled_run_cancels_the_sub_agent_in_its_tool() -> None:
    async def main(observe: Observe) -> None:
        begun = asyncio.Event()
        child = observe(child_of([Call("wait")], name="child"))

        @child.tool_plain
        async def wait() -> None:
            begun.set()
            await asyncio.sleep(60)

        async def delegate() -> str:
            return str((await child.run(PROMPT)).output)

        task = asyncio.create_task(observe(parent_of(delegate, Call("delegate"))).run(PROMPT))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    parent, child = by_run(observed(main))
    assert outline(child) == "llm:ok wait:cancelled cancelled"
    assert outline(parent) == "llm:ok delegate:cancelled cancelled"


@pytest.mark.parametrize("mode", ["run_stream", "run_stream_events", "iter"])
def test_a_run_in_the_body_of_another_stands_beside_it(mode: str) -> None:
    async def main(observe: Observe) -> None:
        child, parent = observe(child_of()), observe(agent_of(["a", "b"], name="parent"))
        match mode:
            case "run_stream":
                async with parent.run_stream(PROMPT) as result:
                    await child.run(PROMPT)
                    await result.get_output()
            case "run_stream_events":
                async with parent.run_stream_events(PROMPT) as events:
                    async for _ in events:
                        await child.run(PROMPT)
            case _:
                async with parent.iter(PROMPT) as agent_run:
                    await child.run(PROMPT)
                    async for _ in agent_run:
                        pass

    parent, *children = by_run(observed(main))
    assert children
    for child in children:
        start = start_of(child)
        assert (start.parent_run_id, start.parent_link, start.root_run_id) == (None, None, child[0].run_id)
        assert start.trace_id != start_of(parent).trace_id
    assert (end_of(parent).sub_agents, end_of(parent).usage_with_children) == (None, None)


def test_a_run_started_by_an_output_validator_is_a_sub_agent_without_a_call() -> None:
    async def main(observe: Observe) -> None:
        child, parent = observe(child_of()), observe(agent_of(model=scripted([Used(20, 5), "a"]), name="parent"))

        @parent.output_validator
        async def ask(output: str) -> str:
            await child.run(PROMPT)
            return output

        await parent.run(PROMPT)

    parent, child = by_run(observed(main))
    start = start_of(child)
    assert (start.parent_run_id, start.parent_link, start.parent_tool_call_id) == (parent[0].run_id, "output", None)
    assert end_of(parent).usage.input_tokens == 20
    assert end_of(parent).usage_with_children.input_tokens == 20 + 7


def test_a_run_after_another_is_not_its_child() -> None:
    async def main(observe: Observe) -> None:
        agent = observe(agent_of(["a", "b"]))
        await agent.run(PROMPT)
        async with agent.run_stream(PROMPT) as result:
            async for _ in result.stream_text(debounce_by=None):
                break
        await agent.run(PROMPT)

    runs = by_run(observed(main))
    assert [outline(run) for run in runs] == [
        "llm:ok final completed",
        "llm:interrupted~ abandoned",
        "llm:ok final completed",
    ]
    assert [start_of(run).parent_run_id for run in runs] == [None, None, None]
    assert len({start_of(run).trace_id for run in runs}) == 3


def test_a_hundred_runs_at_once_do_not_mix() -> None:
    async def main(observe: Observe) -> None:
        child = observe(child_of())

        async def delegate(ctx: RunContext[Any]) -> str:
            await asyncio.sleep(0.001 * (int(ctx.deps) % 7))
            return str((await child.run(f"child of {ctx.deps}")).output)

        parent = observe(parent_of(delegate, Call("delegate"), deps_type=str))

        async def one(number: int) -> None:
            if number % 3 == 0:
                async with parent.run_stream_events(f"run {number}", deps=str(number)) as events:
                    async for _ in events:
                        await asyncio.sleep(0)
            elif number % 3 == 1:
                await parent.run(f"run {number}", deps=str(number))
            else:
                async with parent.run_stream(f"run {number}", deps=str(number)) as result:
                    await result.get_output()

        await asyncio.gather(*(one(number) for number in range(100)))

    events = observed(main)
    parents = {run[0].run_id: run for run in named(events, "parent")}
    children = named(events, "child")
    assert len(parents) == len(children) == 100
    assert {outline(run) for run in parents.values()} == {"llm:ok delegate:ok llm:ok final completed"}
    for child in children:
        start = start_of(child)
        parent = parents.pop(start.parent_run_id)
        assert start.prompt == f"child of {start_of(parent).prompt.removeprefix('run ')}"
        assert end_of(parent).sub_agents == 1
        assert end_of(parent).usage_with_children.input_tokens == (
            end_of(parent).usage.input_tokens + end_of(child).usage.input_tokens
        )


def test_a_caller_of_one_of_two_runs_leaves_and_the_other_goes_on() -> None:
    async def main(observe: Observe) -> None:
        agent = observe(agent_of([str(i) for i in range(20)]))

        async def leaves() -> None:
            async with agent.run_stream_events("leave") as events:
                async for _ in events:
                    break

        async def stays() -> None:
            async with agent.run_stream_events("stay") as events:
                async for _ in events:
                    await asyncio.sleep(0)

        await asyncio.gather(stays(), leaves())

    events = observed(main)
    assert {start_of(run).prompt: end_of(run).outcome for run in by_run(events)} == {
        "stay": "completed",
        "leave": "abandoned",
    }
    for run in by_run(events):
        assert len(of(run, "llm_end")) == 1


def test_nesting_is_seen_by_the_caller_as_without_a_sidecar() -> None:
    child = child_of()

    async def delegate() -> str:
        return str((await child.run(PROMPT)).output)

    check(
        Play(lambda: parent_of(delegate, Call("delegate"))),
        "run_stream_events",
        "llm:ok delegate:ok llm:ok final completed",
    )
    check(Play(lambda: parent_of(delegate, Call("delegate")), breaks, 3), "node.stream", "llm:ok delegate:ok abandoned")
