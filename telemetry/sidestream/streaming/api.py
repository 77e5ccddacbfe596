"""Runs as streams of events: `run_stream` and its sisters.

    async for event in run_stream(agent, "Where is my order?"):
        if event.event_type == StreamEventType.LLM_CHUNK:
            print(event.data["text"], end="", flush=True)

The events equal the log's, with two differences: one `llm_chunk` per delta, delivered at once, and `data` as a dict
that `json.dumps` accepts. The run is a task of its own, which waits at each of pydantic-ai's events until the consumer
requests the next one: a slow consumer slows the model down, and a tool's start is delivered while the tool runs.
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
"""Steps of the event loop before the first event is delivered. A consumer that leaves at `agent_start` would otherwise
cancel pydantic-ai while it opens the run, which leaks a task."""


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
    """Run `agent`, and yield its events while they happen.

    The first event is `agent_start`, the last one `agent_end`. A failed run has an `error` event before `agent_end`,
    and the agent's own exception is raised after it. `seq` has no gaps. Leaving the stream early ends the run.

    Args:
        agent: Any pydantic-ai agent, observed or not; the agent is unchanged afterwards.
        prompt: User prompt.
        deps: Dependencies of the agent.
        message_history: Messages of earlier runs; they cause no events.
        emit_progress: Whether a `progress` event (tokens, cost in US dollars) follows each model request.
        kinds: Kinds of deltas yielded as `llm_chunk`: any of `text`, `thinking`, `tool_call`, `other`.
        sidecar: Sidecar that exports the run, once, whether or not it observes the agent; its prices apply. None: the
            sidecar in `deps.trace_context`, if any.
        options: Further arguments of `agent.run_stream_events`: `model`, `usage_limits`, `output_type`, `timeout`, …

    Raises:
        ConfigurationError: `agent` is not a pydantic-ai agent, or `kinds` holds an unknown kind.
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
    """`run_stream` with chunks of every kind: text, thinking, and the arguments of tool calls as they stream."""
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
    """Run `agent`, and yield the text of its answer, delta by delta. Arguments and errors as for `run_stream`."""
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
    """Run `agent`, and yield `(tool_name, args, None)` when a tool starts, `(tool_name, args, result)` when it ends.

    At the end of a call `result` is never None: it is `"None"` for a tool that returned None, and the error's text or
    the outcome (`"deferred"`, `"cancelled"`, …) for a tool that did not succeed. Arguments and errors as for
    `run_stream`.
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
                yield data.tool_name, args.pop((data.tool_name, data.tool_call_id), None), _tool_result(data)


def _tool_result(tool: ToolEnd) -> Json:
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
    """Run `agent` to its end; returns the result, as `agent.run()` does, and all events.

    The output is `result.output`. `on_event` is called with each event as it happens, and its result is awaited if
    awaitable; an exception of `on_event` ends the run and propagates. Other arguments and errors as for `run_stream`.
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
    # pydantic-ai names a nameless agent after the variable in its caller's frame. Without this call that frame would be
    # one of Sidestream, and every agent's name "agent".
    from sidestream.sources.pydantic_ai.compat import infer_name

    if options.get("infer_name", True):
        infer_name(agent, frame)
    options["infer_name"] = False


# --- the stream ----------------------------------------------------------------------------------------------------


class EventStream(AsyncIterator[StreamEvent], Generic[OutputT]):
    """Stream of the events of one run, which starts with the first `anext`.

    Closing the stream early (`aclose()`, `contextlib.aclosing`) or dropping it ends the run as abandoned. Awaiting a
    stream returns the stream itself, so that `asyncio.as_completed` accepts several.
    """

    def __init__(self, session: StreamSession) -> None:
        self._session = session
        # An async generator, which the event loop closes once dropped: this is the only reference to it.
        self._events = cast(AsyncGeneratorType[StreamEvent, None], _events_of(session))

    @property
    def result(self) -> AgentRunResult[OutputT] | None:
        """Result of the run (`output`, `usage`, `all_messages()`, …); None before its end, or if the run failed."""
        return cast("AgentRunResult[OutputT] | None", self._session.result)

    def __aiter__(self) -> EventStream[OutputT]:
        return self

    def __anext__(self) -> Awaitable[StreamEvent]:
        return self._events.__anext__()

    def __await__(self) -> Generator[None, None, EventStream[OutputT]]:
        yield from ()
        return self

    async def aclose(self) -> None:
        """End the run if it is in progress, and wait for its cleanup. May be called from another task."""
        if self._events.ag_running:  # another task waits for the next event, and gets the remaining ones
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
                task.result()  # raises the run's exception
                return
            session.available.clear()
            session.demand.set()
            await session.available.wait()
    except asyncio.CancelledError:
        session.cancel()
        raise
    finally:
        await session.leave()
