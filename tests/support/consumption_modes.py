"""Ways to consume an agent, and the comparison of a run with and without a sidecar."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import sys
import warnings
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest
from pydantic_ai import (
    Agent,
    AgentRunResultEvent,
    ModelMessage,
    PartDeltaEvent,
    PartStartEvent,
    RunUsage,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    capture_run_messages,
)
from pydantic_ai.ui.ag_ui import AGUIAdapter
from pydantic_ai.ui.vercel_ai import VercelAIAdapter

from sidestream import InMemoryExporter, Sidecar
from sidestream.events import StreamEvent
from tests.support.comparison import chain, plain
from tests.support.run_outline import assert_answers, assert_pieces, assert_whole, by_run, of, outline
from tests.support.scripted_model import Scene, calls_of, scene

PROMPT = "What shall it be?"

AnyAgent: TypeAlias = Agent[Any, Any]
Observe: TypeAlias = Callable[[AnyAgent], AnyAgent]
Act: TypeAlias = Callable[[Scene], Coroutine[Any, Any, bool | None]]
"""Action of the caller in the body of its loop. True: break out."""
OnItem: TypeAlias = Callable[[Any], Coroutine[Any, Any, bool | None]]
Mode: TypeAlias = Callable[[AnyAgent, Mapping[str, Any], OnItem], Coroutine[Any, Any, Any]]
"""Consumer of a run: passes each item to the caller's body, and returns the output."""


# --- the modes -----------------------------------------------------------------------------------------------------


async def run(agent: AnyAgent, ask: Mapping[str, Any], on_item: OnItem) -> Any:
    return (await agent.run(PROMPT, **ask)).output


async def run_with_handler(agent: AnyAgent, ask: Mapping[str, Any], on_item: OnItem) -> Any:
    async def handler(_: Any, events: AsyncIterable[Any]) -> None:
        async for event in events:
            if await on_item(event):
                break

    return (await agent.run(PROMPT, event_stream_handler=handler, **ask)).output


async def run_stream(agent: AnyAgent, ask: Mapping[str, Any], on_item: OnItem) -> Any:
    async with agent.run_stream(PROMPT, **ask) as result:
        async for response in result.stream_response(debounce_by=None):
            if await on_item(response):
                return None
        return await result.get_output()


async def run_stream_events(agent: AnyAgent, ask: Mapping[str, Any], on_item: OnItem) -> Any:
    output: Any = None
    async with agent.run_stream_events(PROMPT, **ask) as events:
        async for event in events:
            if isinstance(event, AgentRunResultEvent):
                output = event.result.output
            elif await on_item(event):
                break
    return output


async def iterate(agent: AnyAgent, ask: Mapping[str, Any], on_item: OnItem) -> Any:
    async with agent.iter(PROMPT, **ask) as agent_run:
        async for node in agent_run:
            if await on_item(type(node).__name__):
                break
    return agent_run.result and agent_run.result.output


async def iterate_by_next(agent: AnyAgent, ask: Mapping[str, Any], on_item: OnItem) -> Any:
    async with agent.iter(PROMPT, **ask) as agent_run:
        node: Any = agent_run.next_node
        while not Agent.is_end_node(node):
            node = await agent_run.next(node)
            if await on_item(type(node).__name__):
                break
    return agent_run.result and agent_run.result.output


async def node_stream(agent: AnyAgent, ask: Mapping[str, Any], on_item: OnItem) -> Any:
    async with agent.iter(PROMPT, **ask) as agent_run:
        async for node in agent_run:
            if Agent.is_model_request_node(node) or Agent.is_call_tools_node(node):
                async with node.stream(agent_run.ctx) as events:
                    async for event in events:
                        if await on_item(event):
                            return None
    return agent_run.result and agent_run.result.output


async def overridden(agent: AnyAgent, ask: Mapping[str, Any], on_item: OnItem) -> Any:
    model: Any = agent.model
    agent.model = None
    try:
        with agent.override(model=model):
            return await run_stream_events(agent, ask, on_item)
    finally:
        agent.model = model


async def _through(stream: Any, on_item: OnItem) -> None:
    async with aclosing(stream):
        async for event in stream:
            if await on_item(event):
                break


async def ag_ui(agent: AnyAgent, ask: Mapping[str, Any], on_item: OnItem) -> Any:
    body: dict[str, Any] = {"threadId": "t", "runId": "r", "state": {}, "tools": [], "context": []}
    body["forwardedProps"] = {}
    body["messages"] = [{"id": "m", "role": "user", "content": PROMPT}]
    adapter = AGUIAdapter(agent, AGUIAdapter.build_run_input(_json(body)))
    await _through(adapter.run_stream(**ask), on_item)


async def vercel(agent: AnyAgent, ask: Mapping[str, Any], on_item: OnItem) -> Any:
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": PROMPT}]}
    body = {"trigger": "submit-message", "id": "c", "messages": [message]}
    adapter = VercelAIAdapter(agent, VercelAIAdapter.build_run_input(_json(body)))
    await _through(adapter.run_stream(**ask), on_item)


def _json(body: Mapping[str, Any]) -> bytes:
    import msgspec

    return msgspec.json.encode(body)


def run_sync(agent: AnyAgent, ask: Mapping[str, Any], on_item: Callable[[Any], bool | None]) -> Any:
    return agent.run_sync(PROMPT, **ask).output


def run_stream_sync(agent: AnyAgent, ask: Mapping[str, Any], on_item: Callable[[Any], bool | None]) -> Any:
    with agent.run_stream_sync(PROMPT, **ask) as result:
        for response in result.stream_response(debounce_by=None):
            if on_item(response):
                return None
        return result.get_output()


MODES: dict[str, Mode] = {
    "run": run,
    "run+handler": run_with_handler,
    "run_stream": run_stream,
    "run_stream_events": run_stream_events,
    "iter": iterate,
    "next": iterate_by_next,
    "node.stream": node_stream,
    "override": overridden,
    "ag_ui": ag_ui,
    "vercel": vercel,
}
SYNC_MODES: dict[str, Any] = {"run_sync": run_sync, "run_stream_sync": run_stream_sync}

WHOLE = ("run", "run_sync", "iter", "next")
"""Modes that request the answer in one piece."""
EVENTS = ("run+handler", "run_stream_events", "node.stream", "override")
"""Modes whose caller receives pydantic-ai's events."""
TEXT = ("run_stream", "run_stream_sync")
UI = ("ag_ui", "vercel")
STREAMED = (*EVENTS, *TEXT, *UI)
ALL = (*WHOLE, *STREAMED)


# --- playing a run
# ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Play:
    """Run to play: the agent, and the actions of its caller."""

    agent: Callable[[], AnyAgent]
    """Factory of a new agent for each run."""
    act: Act | None = None
    at: int = 1
    """Number of the item at which the caller acts, from 1."""
    beside: Act | None = None
    """Concurrent action in another task."""
    ask: Callable[[], Mapping[str, Any]] = dict
    """Further arguments of the run."""


@dataclass
class Played:
    """Everything about a run that is observable for the caller and the process."""

    seen: list[Any] = field(default_factory=list)
    output: Any = None
    error: Any = None
    messages: list[Any] = field(default_factory=list)
    history: list[ModelMessage] = field(default_factory=list)
    """Original message objects."""
    pieces: dict[int, list[str]] = field(default_factory=dict)
    """Pieces of answers by part, for modes with pydantic-ai's events."""
    usage: Any = None
    calls: list[str] = field(default_factory=list)
    """Calls of the model: `request` or `stream`."""
    noise: list[Any] = field(default_factory=list)
    """Complaints of the event loop, the garbage collector, warnings and logs."""
    tasks_left: int = 0


def play(what: Play, mode: str, observe: Observe = lambda agent: agent) -> Played:
    """Play a run in `mode`."""
    played = Played()
    names: dict[str, str] = {}
    stage, usage = Scene(), RunUsage()
    agent = observe(what.agent())
    ask = {"usage": usage, **what.ask()}

    async def on_item(item: Any) -> bool | None:
        stage.seen.append(plain(item, names))
        if piece := piece_in(item):
            played.pieces.setdefault(item.index, []).append(piece)
        if what.act is not None and len(stage.seen) == what.at:
            return await what.act(stage)
        return None

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: played.noise.append(loop_noise(context)))
        before = asyncio.all_tasks()
        beside = asyncio.create_task(what.beside(stage)) if what.beside else None
        stage.task = asyncio.create_task(MODES[mode](agent, ask, on_item))
        try:
            return await stage.task
        finally:
            stage.task = None
            if beside is not None:
                beside.cancel()
            gc.collect()
            for _ in range(5):
                await asyncio.sleep(0)
            played.tasks_left = len(asyncio.all_tasks() - before - {beside})

    scene.set(stage)
    with listening(played.noise), capture_run_messages() as messages:
        try:
            if mode in SYNC_MODES:
                played.output = _play_sync(SYNC_MODES[mode], agent, ask, on_item, played)
            else:
                played.output = asyncio.run(main())
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            played.error = chain(error, names)
        gc.collect()
    played.seen = stage.seen
    played.output = plain(played.output, names)
    played.messages = plain(messages, names)
    played.usage = plain(usage, names)
    played.calls = calls_of(agent.model)
    played.history = messages
    return played


def _play_sync(mode: Any, agent: AnyAgent, ask: Mapping[str, Any], on_item: OnItem, played: Played) -> Any:
    def now(item: Any) -> bool | None:
        step: Any = on_item(item)
        try:
            step.send(None)
        except StopIteration as stop:
            leaves: bool | None = stop.value
            return leaves
        raise AssertionError("a synchronous caller cannot wait")

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: played.noise.append(loop_noise(context)))
    asyncio.set_event_loop(loop)
    try:
        return mode(agent, ask, now)
    finally:
        gc.collect()
        played.tasks_left = len(asyncio.all_tasks(loop))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        asyncio.set_event_loop(None)


@contextmanager
def listening(noise: list[Any]) -> Iterator[None]:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            noise.append((record.name, _without_addresses(record.getMessage())))

    handler, unraisable = Handler(logging.WARNING), sys.unraisablehook
    logging.getLogger().addHandler(handler)
    sys.unraisablehook = lambda raised: noise.append(
        (type(raised.exc_value).__name__, _without_addresses(raised.exc_value))
    )
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
        noise += [(each.category.__name__, _without_addresses(each.message)) for each in warned]
    finally:
        logging.getLogger().removeHandler(handler)
        sys.unraisablehook = unraisable


def loop_noise(context: Mapping[str, Any]) -> Any:
    """Comparable form of a context passed to an event loop's exception handler."""
    error = context.get("exception")
    return _without_addresses(context["message"]), type(error).__name__, _without_addresses(error)


def _without_addresses(text: object) -> str:
    return re.sub("0x[0-9a-f]+", "0x", str(text))


def piece_in(event: Any) -> str | None:
    """Text, thinking or arguments in an event."""
    match event:
        case PartStartEvent(part=TextPart(content=piece) | ThinkingPart(content=piece) | ToolCallPart(args=str(piece))):
            return piece
        case PartDeltaEvent(
            delta=TextPartDelta(content_delta=str(piece))
            | ThinkingPartDelta(content_delta=str(piece))
            | ToolCallPartDelta(args_delta=str(piece))
        ):
            return piece
        case _:
            return None


# --- with and without ----------------------------------------------------------------------------------------------


def play_both(what: Play, mode: str) -> tuple[Played, list[StreamEvent]]:
    """Play the run without and with a sidecar, assert that the caller's view is the same, and return the log."""
    bare = play(what, mode)
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        observed = play(what, mode, sidecar.observe)
        assert_settled(sidecar)
    assert_same(bare, observed)
    for run_events in by_run(memory.events):
        assert_whole(run_events)
    return observed, memory.events


def assert_same(bare: Played, observed: Played) -> None:
    """Assert that the caller and the process observed the same in both runs."""
    for name in ("seen", "output", "error", "messages", "usage", "calls", "tasks_left"):
        assert getattr(observed, name) == getattr(bare, name), f"{name} differ"
    assert sorted(observed.noise, key=repr) == sorted(bare.noise, key=repr)


def assert_settled(sidecar: Sidecar) -> None:
    """Assert that the sidecar holds no state of a run, and that no event was lost."""
    assert sidecar.flush() == {}
    stats = sidecar.stats()
    assert (stats.runs_in_progress, stats.recording_errors) == (0, 0)
    (exporter,) = stats.exporters.values()
    assert (exporter.seen, exporter.dropped, exporter.failures) == (exporter.exported, {}, 0)
    assert sidecar.capability._runs == {}


@dataclass(frozen=True)
class Case:
    """Case of the specification: a run, and its expected log by modes."""

    name: str
    play: Play
    logs: Mapping[tuple[str, ...], str]


def lines_of(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Test parameters `what`, `mode` and `log` for each case and mode."""
    return pytest.mark.parametrize(
        ("what", "mode", "log"),
        [
            pytest.param(case.play, mode, log, id=f"{case.name}, {mode}")
            for case in cases
            for modes, log in case.logs.items()
            for mode in modes
        ],
    )


def check(what: Play, mode: str, log: str) -> list[StreamEvent]:
    """Play a run with and without a sidecar; assert that the log matches the outline `log` and the run's history."""
    observed, events = play_both(what, mode)
    assert outline(events) == log
    if not log:
        return events
    asked = [(data.streaming and "stream") or "request" for data in of(events, "llm_start")]
    if len(asked) == len(observed.calls):  # a fallback model makes more calls
        assert asked == observed.calls
    assert_answers(events, observed.history)
    if mode in EVENTS:
        assert_pieces(events, observed.pieces)
    return events
