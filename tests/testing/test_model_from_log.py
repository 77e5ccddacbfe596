"""Repeated logged runs have the same messages, events, usage and outcome, for every provider."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.models.function import FunctionModel

from sidestream import InMemoryExporter, Sidecar, StreamEvent, encode_line
from sidestream.errors import ConfigurationError
from sidestream.events import AgentEnd, LLMEnd
from sidestream.log import runs
from sidestream.testing import ModelFromLog, RequestDiffers, outline
from tests.support.caller_view import consume, prompt_of, serving
from tests.support.provider_model import Says, call, stream, used
from tests.support.provider_server import ReadRecording
from tests.support.recorded_agents import RECORDED_AGENTS, RecordedAgent
from tests.support.recordings import recording as recording

pytestmark = pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def logged(folder: Path, events: list[StreamEvent]) -> str:
    """A log of `events`; returns the id of their outermost run."""
    (folder / "log.jsonl").write_bytes(b"".join(map(encode_line, events)))
    return events[0].run_id


def facts(events: list[StreamEvent]) -> dict[str, Any]:
    """Facts that have to be equal when a run is repeated."""
    ends = [event.data for event in events if isinstance(event.data, LLMEnd)]
    (over,) = [event.data for event in events if isinstance(event.data, AgentEnd)][-1:]
    return {
        "outline": outline(events),
        "types": [event.event_type for event in events if event.event_type != "llm_chunk"],
        "chunks": [end.chunks for end in ends],
        "usage": [end.usage for end in ends],
        "cost": [end.cost_usd for end in ends],
        "identity": [(end.model, end.response_model, end.response_id, end.provider, end.finish_reason) for end in ends],
        "outcome": (over.outcome, over.exception_type, over.usage, over.cost_usd),
    }


def shown(events: list[Any]) -> list[tuple[str, str]]:
    """Events of a stream as the caller sees them: types and texts."""
    found = []
    for event in events:
        kind = type(event).__name__
        delta, part = getattr(event, "delta", None), getattr(event, "part", None)
        text = getattr(delta, "content_delta", None) or getattr(delta, "args_delta", None)
        text = text or getattr(part, "content", None) or getattr(part, "args", None)
        found.append((kind, str(text or "")))
    return found


@pytest.mark.scenario_32
@pytest.mark.parametrize("recorded", RECORDED_AGENTS, ids=lambda each: each.recording)
def test_what_a_provider_streamed_is_streamed_again(
    recorded: RecordedAgent, recording: ReadRecording, tmp_path: Path
) -> None:
    exchanges = recording(recorded.recording)
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar, serving(exchanges) as (server, first):
        asyncio.run(consume(first, recorded, server, sidecar.observe))
    model = ModelFromLog(tmp_path, run=logged(tmp_path, memory.events))
    again = InMemoryExporter()
    events: list[Any] = []

    async def run_again(sidecar: Sidecar) -> Any:
        agent = sidecar.observe(recorded.build(model))
        async with agent.run_stream_events(prompt_of(recorded, exchanges)) as answer:
            async for event in answer:
                events.append(event)
        return events[-1].result

    with Sidecar(again) as sidecar:
        if first.error is None:
            result = asyncio.run(run_again(sidecar))
            assert repr(result.output) == repr(first.result.output)
            assert [message.kind for message in result.all_messages()] == [
                message.kind for message in first.result.all_messages()
            ]
        else:
            with pytest.raises(ModelAPIError) as raised:  # so that the program handles it as it did
                asyncio.run(run_again(sidecar))
            assert str(raised.value) == str(first.error)
    assert shown(events) == shown(first.events)
    assert facts(again.events) == facts(memory.events)


# --- what differs, tools, sub-agents -------------------------------------------------------------------------------


def shop(model: Any, looked_up: list[str], *, price: str = "5", instructions: str = "be brief") -> Agent[None, str]:
    agent: Agent[None, str] = Agent(model, name="shop", instructions=instructions)

    @agent.tool_plain
    def look_up(order: str) -> dict[str, str]:
        """Looks an order up."""
        looked_up.append(order)
        return {"order": order, "price": price}

    return agent


def record(folder: Path, *agents: Agent[None, Any], streamed: bool = False, prompt: str = "how much?") -> None:
    """A run of the first of `agents`, in a log."""
    with Sidecar(f"jsonl:{folder}/") as sidecar:
        for each in agents:
            sidecar.observe(each)
        with suppress(Exception):
            asyncio.run(stream(agents[0], prompt) if streamed else agents[0].run(prompt))


CALLS: list[Any] = [[call("look_up", {"order": "7"}), used(20, 5)], ["It is 5.", used(30, 4)]]


def outermost(folder: Path) -> str:
    return next(run.run_id for run in runs(folder) if run.parent_run_id is None)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_same_run_gives_the_same_answer(tmp_path: Path, streamed: bool) -> None:
    record(tmp_path, shop(Says(CALLS), []), streamed=streamed)
    model = ModelFromLog(tmp_path, run=outermost(tmp_path)[-4:])
    looked_up: list[str] = []
    agent = shop("test", looked_up)
    with model.override(agent):
        output = asyncio.run(stream(agent, "how much?")) if streamed else agent.run_sync("how much?").output
    assert (output, looked_up) == ("It is 5.", ["7"])
    assert (model.model_name, model.system) == ("gpt-5", "openai")


@pytest.mark.parametrize(
    ("change", "prompt", "told"),
    [
        ({}, "how many?", ["message 0 (user-prompt)", '-   "content": "how much?"', '+   "content": "how many?"']),
        ({"instructions": "be rude"}, "how much?", ["instructions:", "-be brief", "+be rude"]),
        ({"price": "6"}, "how much?", ["message 2 (tool-return)", '-    "price": "5"', '+    "price": "6"']),
    ],
)
def test_a_request_that_differs_fails_with_what_differs(
    tmp_path: Path, change: dict[str, str], prompt: str, told: list[str]
) -> None:
    record(tmp_path, shop(Says(CALLS), []))
    changed = shop(ModelFromLog(tmp_path, run=outermost(tmp_path)), [], **change)
    with pytest.raises(RequestDiffers) as raised:
        changed.run_sync(prompt)
    for line in told:
        assert line in str(raised.value)
    same = shop(ModelFromLog(tmp_path, run=outermost(tmp_path), strict=False), [], **change)
    assert same.run_sync(prompt).output == "It is 5."


def test_a_tool_that_has_changed_and_one_that_is_new_are_told(tmp_path: Path) -> None:
    record(tmp_path, shop(Says(CALLS), []))
    agent: Agent[None, str] = Agent(ModelFromLog(tmp_path, run=outermost(tmp_path)), instructions="be brief")

    @agent.tool_plain
    def look_up(order: str, fast: bool = False) -> str:
        """Looks an order up."""
        return order

    @agent.tool_plain
    def cancel(order: str) -> str:
        return order

    with pytest.raises(RequestDiffers, match=r"(?s)tool look_up:.*fast.*tool cancel: new"):
        agent.run_sync("how much?")


def test_with_logged_tools_nothing_is_touched(tmp_path: Path) -> None:
    agent = shop(Says(CALLS), [])
    again: list[int] = []

    @agent.tool_plain
    def pay(amount: int) -> str:
        again.append(amount)
        if len(again) == 1:
            raise ModelRetry("a smaller amount")
        raise OSError("no money")

    agent.model = Says(
        [[call("pay", {"amount": 9}, "c1"), call("look_up", {"order": "1"})], [call("pay", {"amount": 5}, "c2")]]
    )
    record(tmp_path, agent)
    assert again == [9, 5]
    model = ModelFromLog(tmp_path, run=outermost(tmp_path), tools="logged")
    with model.override(agent), pytest.raises(OSError, match="no money"):
        agent.run_sync("how much?")
    assert again == [9, 5]


def test_a_call_cancelled_by_the_failure_of_another_one_does_not_end_the_run(tmp_path: Path) -> None:
    """The cancelled calls come first, and each would end the run with an exception of its own."""
    waiting = [call("wait", {}, f"c{number}") for number in range(9)]
    agent: Agent[None, str] = Agent(Says([[*waiting, call("fail", {}, "last")]]), name="shop")

    @agent.tool_plain
    async def wait() -> str:
        await asyncio.Event().wait()
        return "never"

    @agent.tool_plain
    async def fail() -> str:
        raise OSError("no money")

    record(tmp_path, agent)
    model = ModelFromLog(tmp_path, run=outermost(tmp_path), tools="logged")
    with model.override(agent), pytest.raises(OSError, match="no money"):
        agent.run_sync("how much?")


def test_sub_agents_are_answered_too(tmp_path: Path) -> None:
    def family(parent_model: Any, child_model: Any) -> list[Agent[None, str]]:
        child: Agent[None, str] = Agent(child_model, name="child")
        parent: Agent[None, str] = Agent(parent_model, name="parent")

        @parent.tool_plain
        async def ask(question: str) -> str:
            return (await child.run(question)).output

        return [parent, child]

    asks: list[Any] = [[call("ask", {"question": "a"}, "c1"), call("ask", {"question": "b"}, "c2")], ["done"]]
    record(tmp_path, *family(Says(asks), Says([["from below"]])))
    model = ModelFromLog(tmp_path, run=outermost(tmp_path))
    parent, child = family("test", "test")
    with model.override(parent, child):
        assert parent.run_sync("how much?").output == "done"
    with pytest.raises(RequestDiffers, match="no further run"), model.override(parent, child):
        parent.run_sync("how much?")


def test_a_history_of_another_run_is_compared_too(tmp_path: Path) -> None:
    with Sidecar(f"jsonl:{tmp_path}/") as sidecar:
        agent = sidecar.observe(Agent(Says([["fine"]])))

        async def turns() -> str:
            first = await agent.run("one")
            return (await agent.run("two", message_history=first.all_messages())).run_id

        run_id = asyncio.run(turns())
    first = Agent(ModelFromLog(tmp_path, run=outermost(tmp_path))).run_sync("one")
    again = Agent(ModelFromLog(tmp_path, run=run_id)).run_sync("two", message_history=first.all_messages())
    assert again.output == "fine"
    with pytest.raises(RequestDiffers, match="messages: 3 logged, 1 now"):
        Agent(ModelFromLog(tmp_path, run=run_id)).run_sync("two")


def test_what_cannot_work_is_said(tmp_path: Path) -> None:
    with Sidecar(f"jsonl:{tmp_path}/?content=none") as sidecar:
        asyncio.run(sidecar.observe(Agent(Says([["fine"]]))).run("one"))
    for strict in (True, False):
        with pytest.raises(ConfigurationError, match="without content"):
            Agent(ModelFromLog(tmp_path, run=outermost(tmp_path), strict=strict)).run_sync("one")
    with pytest.raises(ConfigurationError, match="no such run"):
        ModelFromLog(tmp_path, run="ffffffff")
    with pytest.raises(ConfigurationError, match="pace='slow': choose logged or at once"):
        ModelFromLog(tmp_path, run=outermost(tmp_path), pace="slow")  # type: ignore[arg-type]


def test_at_the_logged_pace_a_piece_comes_no_earlier_than_it_did(tmp_path: Path) -> None:
    async def slow(messages: Any, info: Any) -> Any:
        yield "one "
        await asyncio.sleep(0.05)
        yield "two"

    record(tmp_path, Agent(FunctionModel(stream_function=slow)), streamed=True)
    agent = Agent(ModelFromLog(tmp_path, run=outermost(tmp_path), pace="logged"))

    async def times() -> list[float]:
        found = []
        async with agent.run_stream("how much?") as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                found.append(time.monotonic())
        return found

    first, second = asyncio.run(times())
    assert second - first > 0.02
