"""Observation leaves an agent unchanged, whatever is attached, detached or closed meanwhile."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from pydantic_ai import (
    Agent,
    CustomEvent,
    FunctionToolset,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)
from pydantic_ai.agent import WrapperAgent
from pydantic_ai.capabilities import AbstractCapability, ProcessEventStream
from pydantic_ai.models.function import FunctionModel

from sidestream import ConfigurationError, InMemoryExporter, Sidecar
from sidestream.events import StreamEvent
from tests.support.consumption_modes import EVENTS, MODES, PROMPT, Play, assert_same, assert_settled, check, play
from tests.support.run_outline import assert_whole, by_run, of, outline
from tests.support.scripted_model import Call, Scene, Think, agent_of

LOG = "llm:ok add:ok llm:ok final completed"


async def add(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


def agent(**settings: Any) -> Agent[Any, Any]:
    return agent_of([Think("hm"), Call("add", '{"x": 1}')], ["a", "b"], tools=[add], **settings)


@pytest.fixture
def memory() -> InMemoryExporter:
    return InMemoryExporter()


def story(events: list[StreamEvent]) -> list[Any]:
    """Log without ids and times."""
    passing = {"duration_seconds", "trace_id", "span_id", "root_run_id", "offsets_us"}
    told: list[Any] = []
    for event in events:
        data = msgspec.to_builtins(event.data)
        gone = {name for name in data if name in passing or name.endswith("_seconds")}
        told.append((str(event.event_type), event.seq, {k: v for k, v in data.items() if k not in gone}))
    return told


def test_observing_twice_is_observing_once(memory: InMemoryExporter) -> None:
    with Sidecar(memory) as sidecar:
        observed = sidecar.observe(sidecar.observe(agent()))
        observed.run_sync(PROMPT)
    assert outline(memory.events) == LOG
    assert_whole(memory.events)


def test_an_observed_agent_is_the_agent_it_was(memory: InMemoryExporter) -> None:
    with Sidecar(memory) as sidecar:
        made = agent()
        before = dict(vars(made))
        assert sidecar.observe(made) is made
        assert type(made) is Agent
        assert {name for name, value in vars(made).items() if value != before[name]} == {"_root_capability"}
        sidecar.unobserve(made)
        assert dict(vars(made)) == before


@pytest.mark.parametrize("steps", range(0, 16, 3))
def test_observed_or_closed_while_a_run_is_starting_it_runs(memory: InMemoryExporter, steps: int) -> None:
    async def meanwhile(made: Agent[Any, Any], do: Callable[[], Any]) -> None:
        run = asyncio.create_task(made.run(PROMPT))
        for _ in range(steps):
            await asyncio.sleep(0)
        do()
        await run

    sidecar, made = Sidecar(memory), agent()
    asyncio.run(meanwhile(made, lambda: sidecar.observe(made)))
    asyncio.run(meanwhile(made, sidecar.close))


def test_unobserving_undoes_it(memory: InMemoryExporter) -> None:
    with Sidecar(memory) as sidecar:
        made = agent()
        before = list(made.root_capability.capabilities)
        sidecar.unobserve(sidecar.observe(made))
        assert all(a is b for a, b in zip(made.root_capability.capabilities, before, strict=True))
        made.run_sync(PROMPT)
        assert sidecar.unobserve(made) is made
    assert memory.events == []


def test_closing_leaves_no_trace_on_the_agent(memory: InMemoryExporter) -> None:
    made = agent()
    before = list(made.root_capability.capabilities)
    with Sidecar(memory) as sidecar:
        sidecar.observe(made)
    assert made.root_capability.capabilities == before
    made.run_sync(PROMPT)
    assert memory.events == []


def test_what_an_agent_is_given_later_works_and_is_seen(memory: InMemoryExporter) -> None:
    with Sidecar(memory) as sidecar:
        made = sidecar.observe(agent_of([Call("late"), Call("later", id="call-2")], ["a"]))

        @made.tool_plain
        def late() -> str:
            return "1"

        @made.instructions
        def be_kind() -> str:
            return "Be kind."

        @made.output_validator
        def louder(output: str) -> str:
            return output.upper()

        toolset: FunctionToolset[Any] = FunctionToolset()

        @toolset.tool_plain
        def later() -> str:
            return "2"

        result = made.run_sync(PROMPT, toolsets=[toolset])
    assert result.output == "A"
    told = outline(memory.events).replace("later:ok late:ok", "late:ok later:ok")  # concurrent tools
    assert told == "llm:ok late:ok later:ok llm:ok final completed"
    assert of(memory.events, "llm_start")[0].instructions == "Be kind."
    assert of(memory.events, "final_result")[0].output == "A"


@pytest.mark.parametrize("mode", ["run", "run_stream", "run_stream_events", "node.stream"])
def test_two_sidecars_on_one_agent_both_see_everything(mode: str) -> None:
    one, two = InMemoryExporter(), InMemoryExporter()
    with Sidecar(one) as first, Sidecar(two) as second:
        observed = play(Play(agent), mode, lambda made: second.observe(first.observe(made)))
        assert_settled(first)
        assert_settled(second)
    assert_same(play(Play(agent), mode), observed)
    assert story(one.events) == story(two.events)
    assert_whole(one.events)
    assert one.events[0].run_id == two.events[0].run_id


@pytest.mark.parametrize("mode", ["run", "run_stream", "run_stream_events", "node.stream"])
def test_given_as_a_capability_it_writes_the_same_log(mode: str) -> None:
    given, attached = InMemoryExporter(), InMemoryExporter()
    with Sidecar(given) as sidecar:
        play(Play(lambda: agent(capabilities=[sidecar.capability])), mode)
        assert_settled(sidecar)
    with Sidecar(attached) as sidecar:
        play(Play(agent), mode, sidecar.observe)
    assert story(given.events) == story(attached.events)
    assert given.events


def test_given_and_observed_is_once(memory: InMemoryExporter) -> None:
    with Sidecar(memory) as sidecar:
        sidecar.observe(agent(capabilities=[sidecar.capability])).run_sync(PROMPT)
    assert outline(memory.events) == LOG


@pytest.mark.parametrize("mode", ["run", "run_stream_events", "run_stream", "node.stream", "iter"])
def test_closed_in_mid_run_changes_nothing_for_the_caller(mode: str, memory: InMemoryExporter) -> None:
    bare = play(Play(agent), mode)
    sidecar = Sidecar(memory)

    async def closes(scene: Scene) -> None:
        sidecar.close()

    async def closes_beside(scene: Scene) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sidecar.close()

    what = Play(agent, beside=closes_beside) if mode == "run" else Play(agent, closes, 2)
    assert_same(bare, play(what, mode, sidecar.observe))
    assert of(memory.events, "agent_end") == []
    assert sidecar.stats().runs_in_progress == sidecar.stats().recording_errors == 0


def test_unobserved_in_mid_run_the_run_is_told_to_its_end(memory: InMemoryExporter) -> None:
    with Sidecar(memory) as sidecar:
        made: list[Agent[Any, Any]] = []

        async def unobserves(scene: Scene) -> None:
            sidecar.unobserve(made[0])

        def observe(each: Agent[Any, Any]) -> Agent[Any, Any]:
            made.append(sidecar.observe(each))
            return each

        play(Play(agent, unobserves, 2), "run_stream_events", observe)
        made[0].run_sync(PROMPT)
        assert_settled(sidecar)
    assert outline(memory.events) == LOG
    assert_whole(memory.events)


def test_observed_in_mid_run_the_next_run_is_told(memory: InMemoryExporter) -> None:
    with Sidecar(memory) as sidecar:
        made = agent()

        async def observes(scene: Scene) -> None:
            sidecar.observe(made)

        play(Play(lambda: made, observes, 2), "run_stream_events")
        assert by_run(memory.events) == []
        made.run_sync(PROMPT)
        assert_settled(sidecar)
    assert outline(memory.events) == LOG


def test_an_agent_within_a_wrapper_is_observed_through_it(memory: InMemoryExporter) -> None:
    with Sidecar(memory) as sidecar:
        wrapper = sidecar.observe(WrapperAgent(agent()))
        wrapper.run_sync(PROMPT)
    assert outline(memory.events) == LOG


def test_a_model_that_cannot_stream_is_not_asked_to(memory: InMemoryExporter) -> None:
    with Sidecar(memory) as sidecar:
        model = FunctionModel(lambda messages, info: ModelResponse([TextPart("a")]))
        assert sidecar.observe(Agent(model)).run_sync(PROMPT).output == "a"
    assert [data.streaming for data in of(memory.events, "llm_start")] == [False]


@pytest.mark.parametrize("stranger", [object(), None, "agent", Agent])
def test_what_is_no_agent_cannot_be_observed(stranger: Any, memory: InMemoryExporter) -> None:
    with Sidecar(memory) as sidecar, pytest.raises(ConfigurationError, match="agent"):
        sidecar.observe(stranger)


# --- beside capabilities of the user's own ---------------------------------------------------------------------------


@dataclasses.dataclass
class Extracting(AbstractCapability[Any]):
    """Toolset that counts requests for its tools."""

    asked: int = 0

    def get_toolset(self) -> Any:
        self.asked += 1
        return None


def test_other_capabilities_are_asked_as_often_as_without(memory: InMemoryExporter) -> None:
    bare, observed = Extracting(), Extracting()
    with Sidecar(memory) as sidecar:
        agents = agent(capabilities=[bare]), sidecar.observe(agent(capabilities=[observed]))
        for _ in range(3):
            for made in agents:
                made.run_sync(PROMPT)
    assert observed.asked == bare.asked


@dataclasses.dataclass
class Note(CustomEvent):
    text: str = "by the way"


class Meddling(AbstractCapability[Any]):
    """Capability that changes text to upper case, drops a piece, and adds an event."""

    @property
    def has_wrap_run_event_stream(self) -> bool:
        return False

    async def wrap_run_event_stream(self, ctx: Any, *, stream: AsyncIterable[Any]) -> AsyncIterator[Any]:
        async for event in stream:
            match event:
                case PartDeltaEvent(delta=TextPartDelta(content_delta="secret")):
                    continue
                case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                    yield PartDeltaEvent(index=event.index, delta=TextPartDelta(content_delta=text.upper()))
                case PartStartEvent(part=TextPart()):
                    yield event
                    yield Note()
                case _:
                    yield event


def meddled() -> Agent[Any, Any]:
    return agent_of(["a", "b", "secret", "c"], capabilities=[Meddling()])


@pytest.mark.parametrize("mode", ["run+handler", "run_stream_events", "node.stream"])
def test_a_capability_that_changes_events_changes_them_all_the_same(mode: str, memory: InMemoryExporter) -> None:
    bare = play(Play(meddled), mode)
    with Sidecar(memory) as sidecar:
        observed = play(Play(meddled), mode, sidecar.observe)
        assert_settled(sidecar)
    assert_same(bare, observed)
    assert bare.error is None
    assert observed.pieces == {0: ["a", "B", "C"]}
    assert_whole(memory.events)
    assert [data.text for data in of(memory.events, "llm_chunk")] == ["aBC"]
    (note,) = of(memory.events, "custom")
    assert note.payload["text"] == "by the way"


@pytest.mark.parametrize("mode", EVENTS)
def test_the_objects_a_caller_gets_are_the_ones_that_were_made(mode: str) -> None:
    made: list[Any] = []
    got: list[Any] = []

    class Innermost(AbstractCapability[Any]):
        @property
        def has_wrap_run_event_stream(self) -> bool:
            return False

        async def wrap_run_event_stream(self, ctx: Any, *, stream: AsyncIterable[Any]) -> AsyncIterator[Any]:
            async for event in stream:
                made.append(event)
                yield event

    async def on_item(item: Any) -> None:
        got.append(item)

    with Sidecar(InMemoryExporter()) as sidecar:
        asyncio.run(MODES[mode](sidecar.observe(agent(capabilities=[Innermost()])), {}, on_item))
    assert len(got) == len(made)
    assert all(a is b for a, b in zip(got, made, strict=True))


def test_a_capability_that_makes_runs_stream_makes_them_stream_all_the_same() -> None:
    seen: list[str] = []

    async def handler(ctx: Any, events: AsyncIterable[Any]) -> None:
        async for event in events:
            seen.append(type(event).__name__)

    events = check(Play(lambda: agent(capabilities=[ProcessEventStream(handler)])), "run", LOG)
    assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]
    assert all(data.streaming for data in of(events, "llm_start"))
