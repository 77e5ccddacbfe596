"""Runs as streams of events: `run_stream` and its sisters.

    async for event in run_stream(agent, "Where is my order?"):
        if event.event_type == StreamEventType.LLM_CHUNK:
            print(event.data["text"], end="", flush=True)

The events are those of the log, told by the same observer, but with one `llm_chunk` for each delta, as it comes, and
with `data` as a dict that `json.dumps` writes. The
run goes on in a task of its own and waits at each of pydantic-ai's events until the consumer asks for more, so a slow
consumer slows the model down, and a tool's start is delivered while the tool is at work.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Generator, Sequence
from contextlib import aclosing
from types import AsyncGeneratorType, FrameType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from sidestream.events import ChunkKind, Json, StreamEvent, StreamEventType, ToolEnd

from .event_data import with_event_data
from .session import ALL_KINDS, StreamSession
from .tracing import sidecar_in

if TYPE_CHECKING:
    from sidestream.sidecar import Sidecar
    from sidestream.sources.pydantic_ai.types import AbstractAgent, AgentRunResult, ModelMessage, UserContent

OutputT = TypeVar("OutputT")

TEXT: tuple[ChunkKind, ...] = ("text",)
OPENING_STEPS = 8
"""Steps of the event loop before the first event is given out. pydantic-ai, cancelled just when a run has opened, would
leave a task behind, and a consumer that leaves at `agent_start` would do that."""


# --- the five functions --------------------------------------------------------------------------------------------


def run_stream(
    agent: AbstractAgent[Any, OutputT],
    prompt: str | Sequence[UserContent] | None,
    deps: Any = None,
    message_history: Sequence[ModelMessage] | None = None,
    emit_progress: bool = True,
    *,
    kinds: Collection[ChunkKind] = TEXT,
    sidecar: Sidecar | None = None,
    **options: Any,
) -> EventStream[OutputT]:
    """Run `agent` and tell what happens, while it happens.

    The first event is `agent_start` and the last one `agent_end`, also where the run fails: then an `error` event comes
    before it, and the agent's own exception is raised after it. `seq` has no gap. Leaving early ends the run.

    Args:
        agent: Any pydantic-ai agent. It need not be observed, and is afterwards as it was.
        prompt: What the user asks.
        deps: The agent's dependencies.
        message_history: What was said before. It is not told again.
        emit_progress: Whether to tell `progress` (tokens, cost in US dollars) after each model request.
        kinds: Which pieces of the answer to tell as `llm_chunk`: of `text`, `thinking`, `tool_call`, `other`.
        sidecar: Exports this run too, once, whether it observes the agent or not; its prices are used. Not given: the
            one in `deps.trace_context`, if there is one.
        options: Further arguments of `agent.run_stream_events`: `model`, `usage_limits`, `output_type`, `timeout`, …

    Raises:
        ConfigurationError: `agent` is not a pydantic-ai agent, or `kinds` names one that does not exist.
    """
    _infer_name(agent, options, sys._getframe())
    options |= {"deps": deps, "message_history": message_history}
    sidecar = sidecar_in(deps) if sidecar is None else sidecar
    if sidecar is not None:
        sidecar.take_over(agent)
    return EventStream(StreamSession(agent, prompt, options, kinds, emit_progress, sidecar))


def run_stream_with_tools(
    agent: AbstractAgent[Any, OutputT],
    prompt: str | Sequence[UserContent] | None,
    deps: Any = None,
    message_history: Sequence[ModelMessage] | None = None,
    emit_progress: bool = True,
    *,
    kinds: Collection[ChunkKind] = ALL_KINDS,
    sidecar: Sidecar | None = None,
    **options: Any,
) -> EventStream[OutputT]:
    """`run_stream` with everything the model says: its thinking, and tool calls while it is still writing them."""
    _infer_name(agent, options, sys._getframe())
    return run_stream(agent, prompt, deps, message_history, emit_progress, kinds=kinds, sidecar=sidecar, **options)


def stream_text(
    agent: AbstractAgent[Any, Any],
    prompt: str | Sequence[UserContent] | None,
    deps: Any = None,
    message_history: Sequence[ModelMessage] | None = None,
    *,
    sidecar: Sidecar | None = None,
    **options: Any,
) -> AsyncGenerator[str, None]:
    """Run `agent` and yield the text it writes, piece by piece. Arguments and errors are those of `run_stream`."""
    _infer_name(agent, options, sys._getframe())
    return _texts(run_stream(agent, prompt, deps, message_history, sidecar=sidecar, **options))


async def _texts(stream: EventStream[Any]) -> AsyncGenerator[str, None]:
    async with aclosing(stream):
        async for event in stream:
            if event.event_type == StreamEventType.LLM_CHUNK and event.data.text:
                yield event.data.text


def stream_tool_calls(
    agent: AbstractAgent[Any, Any],
    prompt: str | Sequence[UserContent] | None,
    deps: Any = None,
    message_history: Sequence[ModelMessage] | None = None,
    *,
    sidecar: Sidecar | None = None,
    **options: Any,
) -> AsyncGenerator[tuple[str, Json, Json], None]:
    """Run `agent` and yield `(tool_name, args, None)` when a tool starts and `(tool_name, args, result)` when it ends.

    At its end `result` is never None: a tool that returned None is told as `"None"`, and one that did not succeed as
    the text of its error, else as its outcome (`"deferred"`, `"cancelled"`, …).
    Arguments and errors are those of `run_stream`.
    """
    _infer_name(agent, options, sys._getframe())
    return _tool_calls(run_stream(agent, prompt, deps, message_history, kinds=(), sidecar=sidecar, **options))


async def _tool_calls(stream: EventStream[Any]) -> AsyncGenerator[tuple[str, Json, Json], None]:
    args: dict[tuple[str, str | None], Json] = {}
    async with aclosing(stream):
        async for event in stream:
            data = event.data
            if event.event_type == StreamEventType.TOOL_START:
                args[data.tool_name, data.tool_call_id] = data.args
                yield data.tool_name, data.args, None
            elif event.event_type == StreamEventType.TOOL_END:
                yield data.tool_name, args.pop((data.tool_name, data.tool_call_id), None), _came_of(data)


def _came_of(tool: ToolEnd) -> Json:
    if tool.result is not None:
        return tool.result
    return "None" if tool.outcome == "ok" else tool.error or tool.outcome


async def collect_stream_result(
    agent: AbstractAgent[Any, OutputT],
    prompt: str | Sequence[UserContent] | None,
    deps: Any = None,
    message_history: Sequence[ModelMessage] | None = None,
    on_event: Callable[[StreamEvent], Awaitable[object] | object] | None = None,
    *,
    emit_progress: bool = True,
    kinds: Collection[ChunkKind] = TEXT,
    sidecar: Sidecar | None = None,
    **options: Any,
) -> tuple[AgentRunResult[OutputT], list[StreamEvent]]:
    """Run `agent` to its end; returns its result, as `agent.run()` does, and all events.

    The output is `result.output`. `on_event` is called with each event as it comes, and awaited if it can be; what it
    raises ends the run and is raised here. The other arguments and errors are those of `run_stream`.
    """
    _infer_name(agent, options, sys._getframe())
    stream = run_stream(agent, prompt, deps, message_history, emit_progress, kinds=kinds, sidecar=sidecar, **options)
    events: list[StreamEvent] = []
    async with aclosing(stream):
        async for event in stream:
            events.append(event)
            if on_event is not None:
                awaited = on_event(event)
                if isinstance(awaited, Awaitable):
                    await awaited
    assert stream.result is not None, "a run that raises nothing has a result"
    return stream.result, events


def _infer_name(agent: Any, options: dict[str, Any], frame: FrameType) -> None:
    # As pydantic-ai does where an agent has no name: that of the variable in the caller's frame. Left to it, the frame
    # would be one of ours, and every agent's name "agent".
    from sidestream.sources.pydantic_ai.compat import infer_name

    if options.get("infer_name", True):
        infer_name(agent, frame)
    options["infer_name"] = False


# --- the stream ----------------------------------------------------------------------------------------------------


class EventStream(AsyncIterator[StreamEvent], Generic[OutputT]):
    """The events of one run. The run starts when the first one is asked for.

    Leave it with `aclose()` (`contextlib.aclosing`), or just drop it: either way the run is ended, as abandoned.
    Awaiting a stream gives the stream itself, so that `asyncio.as_completed` takes several.
    """

    def __init__(self, session: StreamSession) -> None:
        self._session = session
        # A generator, for the event loop closes one that is dropped, and nothing of ours refers to it but this.
        self._events = cast(AsyncGeneratorType[StreamEvent, None], _events_of(session))

    @property
    def result(self) -> AgentRunResult[OutputT] | None:
        """The run's result (`output`, `usage`, `all_messages()`, …) once it is over; None before, or if it failed."""
        return cast("AgentRunResult[OutputT] | None", self._session.result)

    def __aiter__(self) -> EventStream[OutputT]:
        return self

    def __anext__(self) -> Awaitable[StreamEvent]:
        return self._events.__anext__()

    def __await__(self) -> Generator[None, None, EventStream[OutputT]]:
        yield from ()
        return self

    async def aclose(self) -> None:
        """End the run, if it has not ended, and wait until it is torn down. May be called from another task."""
        if self._events.ag_running:  # another task is waiting for the next event, and gets those that are left
            await self._session.leave()
        else:
            await self._events.aclose()


async def _events_of(session: StreamSession) -> AsyncGenerator[StreamEvent, None]:
    task = session.start()
    opening = OPENING_STEPS
    try:
        while True:
            while session.queue:
                while opening:
                    opening -= 1
                    await asyncio.sleep(0)
                yield with_event_data(session.queue.popleft())
            if task.done():
                task.result()  # raises what the run raised
                return
            session.available.clear()
            session.demand.set()
            await session.available.wait()
    except asyncio.CancelledError:
        session.cancel()
        raise
    finally:
        await session.leave()
