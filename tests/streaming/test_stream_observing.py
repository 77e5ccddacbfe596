"""Streams beside sidecars and other runs of the same agent: each run is exported only where requested."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.agent import WrapperAgent
from pydantic_ai.capabilities import AbstractCapability, Instrumentation
from pydantic_ai.toolsets import FunctionToolset

from sidestream import StreamEvent, collect_stream_result, run_stream, run_stream_with_tools
from sidestream.sources.pydantic_ai import attach
from sidestream.sources.pydantic_ai.capability import Observer
from tests.support.scripted_model import Call
from tests.support.talking_model import Log, agent_of, of, run, texts_of, types_of


async def all_of(stream: Any) -> list[StreamEvent]:
    """All events of a stream."""
    return [event async for event in stream]


def runs_of(log: Log) -> dict[str, list[StreamEvent]]:
    """The log's events by run."""
    _ = log.events
    return log.memory.runs()


@dataclass
class Counting(AbstractCapability[Any]):
    """Capability of the application that counts how often its parts are requested."""

    asked: list[str] = field(default_factory=list)

    def get_toolset(self) -> Any:
        self.asked.append("toolset")
        toolset = FunctionToolset[Any]()

        @toolset.tool_plain
        def noop() -> str:
            return "done"

        return toolset

    def get_instructions(self) -> Any:
        self.asked.append("instructions")
        return "Be kind."


class TestTheSidecar:
    @pytest.mark.parametrize("observed", ["not", "by it", "by another", "by both", "by the run", "by a capability"])
    def test_exports_the_run_once(self, observed: str, log: Log) -> None:
        """Each sidecar exports the run once, whichever sidecars observe the agent already."""
        other = Log()
        capabilities = [log.sidecar.capability] if observed == "by a capability" else []
        agent = agent_of(["one ", Call("noop")], ["two"], capabilities=[Counting(), *capabilities])
        if observed in ("by it", "by both"):
            log.sidecar.observe(agent)
        if observed in ("by another", "by both"):
            other.sidecar.observe(agent)
        options: dict[str, Any] = {"capabilities": [log.sidecar.capability]} if observed == "by the run" else {}
        before = list(agent.root_capability.capabilities)

        events = run(all_of(run_stream(agent, "?", sidecar=log.sidecar, **options)))

        assert agent.root_capability.capabilities == before
        for each in (log, other) if observed in ("by another", "by both") else (log,):
            ((run_id, logged),) = runs_of(each).items()
            assert run_id == events[0].run_id
            assert [t for t in types_of(logged) if t != "llm_chunk"] == [
                t for t in types_of(events) if t != "llm_chunk"
            ]
            assert [event.seq for event in logged] == list(range(len(logged)))
            assert "".join(texts_of(logged)) == "one two"
            assert logged[0].data.parent_run_id is None
        other.sidecar.close()

    def test_is_not_needed_for_an_observed_agent(self, log: Log) -> None:
        """`sidecar.observe(agent)` exports streams like any other run."""
        run(all_of(run_stream(log.sidecar.observe(agent_of(["hi"])), "?")))
        assert log.endings == ["completed"]

    def test_exports_no_other_run_of_the_agent(self, log: Log) -> None:
        """Runs beside the stream, and runs in its tools, are not exported."""
        agent = agent_of(["one ", Call("beside")], ["two"])

        @agent.tool_plain
        async def beside() -> str:
            return str((await agent.run("inner", message_history=answered)).output)

        async def main() -> None:
            answered.extend((await agent_of(["x"]).run("x")).all_messages())
            async for _ in run_stream(agent, "outer", sidecar=log.sidecar):
                await agent.run("beside", message_history=answered)

        answered: list[Any] = []
        run(main())
        assert [data.prompt for data in of(log.events, "agent_start")] == ["outer"]

    def test_may_be_closed(self, log: Log) -> None:
        """A closed sidecar exports nothing, and the stream stays complete."""
        log.sidecar.close()
        assert types_of(run(all_of(run_stream(agent_of(["hi"]), "?", sidecar=log.sidecar))))[-1] == "agent_end"
        assert log.memory.events == []

    def test_says_nothing_of_its_own(self, log: Log, caplog: pytest.LogCaptureFixture) -> None:
        """No internal failure of the recording is logged."""
        with caplog.at_level(logging.ERROR, logger="sidestream"):
            run(all_of(run_stream(agent_of(["hi"]), "?", sidecar=log.sidecar)))
        assert caplog.records == []


class TestOtherRuns:
    def test_do_not_leak_into_the_stream(self) -> None:
        """Runs of the same agent, beside the stream and in its tools, in any mode."""
        agent = agent_of(["one ", Call("inner")], ["two"])

        @agent.tool_plain
        async def inner() -> str:
            async with agent.run_stream_events("inner", message_history=answered) as events:
                async for _ in events:
                    pass
            return "done"

        async def main() -> list[StreamEvent]:
            answered.extend((await agent_of(["x"]).run("x")).all_messages())
            beside = asyncio.create_task(agent.run("beside", message_history=answered))
            events = await all_of(run_stream(agent, "outer"))
            await beside
            return events

        answered: list[Any] = []
        events = run(main())
        assert {event.run_id for event in events} == {events[0].run_id}
        assert texts_of(events) == ["one ", "two"]
        assert [event.seq for event in events] == list(range(len(events)))

    def test_go_on_when_the_stream_is_over(self) -> None:
        """A run that began beside a stream is unaffected when the observer is detached."""
        agent = agent_of(["one ", Call("wait")], ["two"])
        over = asyncio.Event()

        @agent.tool
        async def wait(ctx: RunContext[Any]) -> str:
            if ctx.prompt == "slow":
                await over.wait()
            return "done"

        async def main() -> str:
            slow = asyncio.create_task(collect_stream_result(agent, "slow"))
            bare = asyncio.create_task(agent.run("slow"))
            await asyncio.sleep(0.02)
            await all_of(run_stream(agent, "quick"))
            over.set()
            result, events = await slow
            assert types_of(events)[-1] == "agent_end"
            assert (await bare).output == "in one piece"
            return str(result.output)

        assert run(main()) == "two"

    def test_may_start_at_any_moment(self) -> None:
        """A run may start in the same step of the event loop in which a stream begins or ends."""

        async def main() -> None:
            for steps in range(30):
                agent = agent_of(["hi"])
                stream = asyncio.create_task(all_of(run_stream(agent, "?")))
                bare = []
                for _ in range(steps):
                    await asyncio.sleep(0)
                    bare.append(asyncio.create_task(agent.run("?")))
                assert types_of(await stream)[-1] == "agent_end"
                await asyncio.gather(*bare)

        run(main())

    def test_within_a_tool_have_the_stream_s_run_for_parent(self, log: Log) -> None:
        """Streams within a tool are children of the outer run; costs count once, in stream and log."""
        child = agent_of(["child"], name="child")
        parent = agent_of([Call("ask")], ["parent"], name="parent")
        inner: list[StreamEvent] = []

        @parent.tool_plain
        async def ask() -> str:
            result, events = await collect_stream_result(child, "?", sidecar=log.sidecar)
            inner.extend(events)
            return str(result.output)

        outer = run(all_of(run_stream(parent, "?", sidecar=log.sidecar)))
        for parents, children in ((outer, inner), tuple(runs_of(log).values())):
            assert children[0].data.parent_run_id == parents[0].run_id
            assert children[0].data.parent_link == "tool"
            end = parents[-1].data
            assert end.sub_agents == 1
            own, below = end.usage.total_tokens, children[-1].data.usage.total_tokens
            assert end.usage_with_children.total_tokens == own + below


class TestTheAgent:
    def test_is_as_it_was_however_the_stream_ends(self) -> None:
        """The agent has the same capabilities in the same order afterwards."""
        agent = agent_of(["a", "b"], capabilities=[Counting()])
        broken = agent_of(["a", ValueError()])

        async def main() -> None:
            for each in (agent, broken):
                root = each.root_capability
                before = list(root.capabilities)
                with suppress(ValueError):
                    await all_of(run_stream(each, "?"))
                stream = run_stream(each, "?")
                await anext(stream)
                assert any(isinstance(one, Observer) for one in each.root_capability.capabilities)
                await stream.aclose()
                after = each.root_capability.capabilities
                assert list(map(id, after)) == list(map(id, before))
                assert each.root_capability is root

        run(main())
        assert not attach._temporary

    def test_is_not_asked_again_for_its_capabilities_tools(self, log: Log) -> None:
        """A capability's tools are requested once, when the agent is created."""
        counting = Counting()
        agent = agent_of([Call("noop")], ["ok"], capabilities=[counting])
        before = list(counting.asked)
        for _ in range(3):
            run(all_of(run_stream(agent, "?", sidecar=log.sidecar)))
        assert counting.asked == before

    def test_may_be_wrapped(self, log: Log) -> None:
        """The agent inside a `WrapperAgent` is the one that runs."""
        agent = agent_of(["hi"])
        events = run(all_of(run_stream(WrapperAgent(agent), "?", sidecar=log.sidecar)))
        assert types_of(events)[-1] == "agent_end"
        assert log.endings == ["completed"]
        assert not any(isinstance(each, Observer) for each in agent.root_capability.capabilities)

    @pytest.mark.parametrize("observed", [False, True])
    def test_may_be_overridden(self, observed: bool, log: Log) -> None:
        """An override is respected, including a spec that replaces the capabilities."""
        agent = agent_of(["hi"])
        if observed:
            log.sidecar.observe(agent)

        async def main() -> list[StreamEvent]:
            with agent.override(spec={"capabilities": ["Thinking"]}):
                return await all_of(run_stream(agent, "?", sidecar=log.sidecar))

        events = run(main())
        assert types_of(events)[0] == "agent_start"
        assert types_of(events)[-1] == "agent_end"
        assert log.endings == ["completed"]

    def test_may_be_instrumented(self, log: Log) -> None:
        """Stream and log have the same trace id."""
        agent = agent_of(["hi"], capabilities=[Instrumentation()])
        events = run(all_of(run_stream_with_tools(agent, "?", sidecar=log.sidecar)))
        assert events[0].data.trace_id == of(log.events, "agent_start")[0].trace_id

    def test_asks_its_model_as_often_as_without_us(self) -> None:
        """The stream sends as many requests as an unobserved run, in streaming mode."""
        counts: list[int] = []

        async def count() -> None:
            counts.append(1)

        async def bare(agent: Agent[Any, Any]) -> list[Any]:
            async with agent.run_stream_events("?") as events:
                return [event async for event in events]

        run(bare(agent_of([count, "a"])))
        run(all_of(run_stream(agent_of([count, "a"]), "?")))
        assert counts == [1, 1]
