"""Agents and tapped streams driven step by step: each model, tool and stream waits for its next action.

The event loop runs only within an action, until nothing more can happen, so that the same actions have the same effect.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic_ai import Agent, ModelMessage, ModelResponse, ModelRetry, RunContext, TextPart, ToolCallPart, UsageLimits
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from sidestream import Sidecar
from sidestream.sources.tap.recorder import StreamRecorder

Mode: TypeAlias = Literal["run", "iter", "run_stream", "run_stream_events", "never closed"]
"""Consumption of a run. `never closed`: `run_stream_events` whose stream is left to the garbage collector."""
STREAMED: tuple[Mode, ...] = ("run_stream", "run_stream_events", "never closed")


@dataclass(frozen=True)
class Say:
    """Piece of a model's answer."""

    text: str


@dataclass(frozen=True)
class Call:
    """End of an answer with `number` parallel tool calls."""

    number: int


@dataclass(frozen=True)
class Delegate:
    """Sub-agent within a tool."""

    mode: Mode


@dataclass(frozen=True)
class Tapped:
    """Tapped stream within a tool."""


@dataclass(frozen=True)
class Finish:
    """End of an answer, or of a tool."""


@dataclass(frozen=True)
class Retry:
    """Request of a tool to be called again."""


@dataclass(frozen=True)
class Fail:
    """Exception of a model or tool."""


ModelAction: TypeAlias = Say | Call | Finish | Fail
ToolAction: TypeAlias = Delegate | Tapped | Finish | Retry | Fail


@dataclass(eq=False)
class DrivenRun:
    """Run of an agent or stream, as its consumer sees it. The name is the prompt."""

    name: str
    mode: Mode | Literal["tap"]
    sidecar: Sidecar | None
    """Sidecar that must record the run; None if none may."""
    parent: DrivenRun | None = None
    tool_call_id: str | None = None
    outcome: str | None = None
    """Expected outcome; None while the run is in progress."""
    text: str = ""
    """Text of the model's answers so far."""
    leaves: bool = False
    """Whether the consumer leaves at the next item."""
    left_alone: bool = False
    """Whether the stream is left to the garbage collector, which has not found it yet."""
    ends_unseen: bool = False
    """Whether its consumer cannot know the outcome: its sidecar is closed by then, or the run is stopped from outside,
    by a limit of time, its cancellation or the end of its consumer (within another run, never closed, or when the event
    loop ends)."""
    task: asyncio.Task[None] | None = None
    limit: asyncio.Timeout = field(default_factory=lambda: asyncio.Timeout(None))


@dataclass(eq=False)
class Point:
    """Model or tool that waits for an action."""

    run: DrivenRun
    future: asyncio.Future[Any]
    tool_call_id: str | None = None
    """Id of the tool call; None for a model."""
    said: bool = False
    """Whether the model's answer has begun."""


class Program:
    """Program with many runs of one agent, and an event loop of its own.

    Args:
        sidecar: Returns the sidecar that observes the agent now; None if none does.
        name: Prefix of the runs' names.
    """

    def __init__(self, sidecar: Callable[[], Sidecar | None], name: str = "") -> None:
        self._sidecar = sidecar
        self._name = name
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: None)  # an abandoned run is reported as destroyed
        self.agent: Agent[DrivenRun, str] = Agent(deps_type=DrivenRun, name="driven", retries=1_000)
        self.agent.tool(self._work)
        self.runs: list[DrivenRun] = []
        self.points: list[Point] = []
        self._calls = 0

    # --- actions ---

    def start(self, mode: Mode) -> DrivenRun:
        """Start a run that no other run encloses."""
        run = self._new_run(mode)
        run.task = self.loop.create_task(self._consume(run))
        self.settle()
        return run

    def act(self, number: int, model: ModelAction, tool: ToolAction, *, leave: bool = False) -> None:
        """Give an action to one of the waiting models and tools: `model` or `tool`, according to its kind.

        `leave`: whether the consumer leaves at the next item.
        """
        if not self.points:
            return
        point = self.points[number % len(self.points)]
        action: ModelAction | ToolAction = tool if point.tool_call_id is not None else model
        if point.said and isinstance(action, Call):
            action = Finish()  # `run_stream` regards text before a call as the result
        point.run.leaves |= leave and point.run.mode != "run"
        if isinstance(action, Say):
            point.run.text += action.text
        point.future.set_result(action)
        self.settle()

    def cancel(self, number: int) -> None:
        """Cancel the task of a run."""
        going_on = [run for run in self.runs if run.task is not None and not run.task.done()]
        if going_on:
            task = going_on[number % len(going_on)].task
            assert task is not None
            task.cancel()
            self.settle()

    def time_out(self, number: int) -> None:
        """Let the time limit around a run expire, be the run a sub-agent or not."""
        going_on = [run for run in self.runs if run.outcome is None]
        if going_on:
            self.loop.call_soon(going_on[number % len(going_on)].limit.reschedule, 0)
            self.settle()

    def settle(self) -> None:
        """Run the event loop until nothing more can happen without an action."""
        loop: Any = self.loop
        while True:
            loop.call_soon(loop.stop)
            loop.run_forever()
            if not loop._ready and not any(timer.when() <= loop.time() for timer in loop._scheduled):
                return

    def end(self) -> None:
        """Cancel all runs, and close the event loop, which cancels what is left."""
        for run in self.runs:
            if run.task is not None:
                run.task.cancel()
        self.settle()
        for run in self.runs:
            run.ends_unseen |= run.outcome is None or run.left_alone
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.settle()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.settle()
        self.loop.close()
        for run in self.runs:
            run.left_alone = False

    # --- runs ---

    def _new_run(self, mode: Mode, parent: DrivenRun | None = None, tool_call_id: str | None = None) -> DrivenRun:
        sidecar = self._sidecar()
        run = DrivenRun(f"{self._name}{len(self.runs)}", mode, sidecar, parent, tool_call_id)
        run.left_alone = mode == "never closed"  # pydantic-ai itself keeps the run until the end of the event loop
        self.runs.append(run)
        return run

    async def _consume(self, run: DrivenRun) -> None:
        try:
            async with run.limit:
                await self._read(run)
            run.outcome = "abandoned" if run.leaves else "completed"
        except asyncio.CancelledError:
            run.outcome = "cancelled"
            run.ends_unseen = run.mode == "never closed" or run.parent is not None
            raise
        except TimeoutError:
            run.outcome = "timed_out"
        except ValueError:
            run.outcome = "error"
        finally:
            run.ends_unseen |= run.sidecar is not None and not run.sidecar.active

    async def _read(self, run: DrivenRun) -> None:
        agent = self.agent
        about: Any = {"deps": run, "model": self._model(run), "usage_limits": UsageLimits(request_limit=None)}
        match run.mode:
            case "run":
                await agent.run(run.name, **about)
            case "iter":
                async with agent.iter(run.name, **about) as nodes:
                    async for _ in nodes:
                        if run.leaves:
                            break
                    else:
                        run.leaves = False
            case "run_stream":
                async with agent.run_stream(run.name, **about) as result:
                    async for _ in result.stream_text(delta=True, debounce_by=None):
                        if run.leaves:
                            return
                    run.leaves = False
            case "run_stream_events":
                async with agent.run_stream_events(run.name, **about) as events:
                    await self._read_events(run, events)
            case "never closed":
                await self._read_events(run, await agent.run_stream_events(run.name, **about).__aenter__())

    async def _read_events(self, run: DrivenRun, events: Any) -> None:
        async for _ in events:
            if run.leaves:
                return
        run.leaves = False

    def _model(self, run: DrivenRun) -> FunctionModel:
        async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
            said = False
            while True:
                match await self._reach(run, said=said):
                    case Say(text):
                        said = True
                        yield text
                    case Call(number):
                        for index in range(number):
                            yield {index: DeltaToolCall("_work", "{}", tool_call_id=self._next_call())}
                        return
                    case Fail():
                        raise ValueError("the model fails")
                    case Finish():
                        if not said:
                            run.text += "."
                            yield "."
                        return

        async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            said = ""
            while True:
                match await self._reach(run, said=bool(said)):
                    case Say(text):
                        said += text
                    case Call(number):
                        return ModelResponse([ToolCallPart("_work", {}, self._next_call()) for _ in range(number)])
                    case Fail():
                        raise ValueError("the model fails")
                    case Finish():
                        if not said:
                            run.text += "."
                        return ModelResponse([TextPart(said or ".")])

        return FunctionModel(answer, stream_function=stream)

    async def _work(self, ctx: RunContext[DrivenRun]) -> str:
        """Do what the next actions say."""
        while True:
            match await self._reach(ctx.deps, ctx.tool_call_id):
                case Delegate(mode):
                    child = self._new_run(mode, ctx.deps, ctx.tool_call_id)
                    try:
                        await self._consume(child)
                    finally:
                        child.outcome = child.outcome or "cancelled"
                case Tapped():
                    sidecar = self._sidecar()
                    if sidecar is not None:
                        tap = DrivenTap(sidecar, f"{self._name}{len(self.runs)}", ctx.deps, ctx.tool_call_id)
                        self.runs.append(tap.run)
                        tap.finish()
                case Retry():
                    raise ModelRetry("again")
                case Fail():
                    raise ValueError("the tool fails")
                case Finish():
                    return "done"

    async def _reach(self, run: DrivenRun, tool_call_id: str | None = None, *, said: bool = False) -> Any:
        point = Point(run, self.loop.create_future(), tool_call_id, said)
        self.points.append(point)
        try:
            return await point.future
        finally:
            self.points.remove(point)

    def _next_call(self) -> str:
        self._calls += 1
        return f"{self._name}call-{self._calls}"


class DrivenTap:
    """Tapped plain stream, whose items are functions that report to the recorder."""

    def __init__(
        self, sidecar: Sidecar, name: str, parent: DrivenRun | None = None, tool_call_id: str | None = None
    ) -> None:
        self.run = DrivenRun(name, "tap", sidecar if sidecar.active else None, parent, tool_call_id)
        self._items: deque[Callable[[StreamRecorder], None]] = deque()
        self._tap: Any = sidecar.tap(self._stream(), adapter=_apply, agent_name="tapped", prompt=name)

    def _stream(self) -> Iterator[Callable[[StreamRecorder], None]]:
        while self._items:
            item = self._items.popleft()
            if item is _break:
                raise ValueError("the stream breaks")
            yield item

    def pull(self, item: Callable[[StreamRecorder], None]) -> None:
        """Pull `item`, unless the run has ended."""
        if self.run.outcome is None:
            self._items.append(item)
            next(self._tap)

    def say(self, text: str) -> None:
        """Pull a piece of text."""
        if self.run.outcome is None:
            self.run.text += text
            self.pull(lambda record: record.text(text))

    def finish(self) -> None:
        """Read the stream to its end."""
        if self.run.outcome is None:
            self.say("x")
            self.pull(lambda record: record.final_result("x"))
            self.run.outcome = "completed"
            assert list(self._tap) == []

    def fail(self) -> None:
        """Let the stream raise."""
        if self.run.outcome is None:
            self.run.outcome = "error"
            self._items.append(_break)
            with suppress(ValueError):
                next(self._tap)

    def close(self) -> None:
        """Close the stream early."""
        if self.run.outcome is None:
            self.run.outcome = "abandoned"
            self._tap.close()

    def drop(self) -> None:
        """Leave the stream to the garbage collector, which finds a reference cycle."""
        if self.run.outcome is None:
            self.run.outcome = "abandoned"
            self.run.left_alone = True
            cycle = [self._tap]
            cycle.append(cycle)
            self._tap = iter(())


def _apply(item: Callable[[StreamRecorder], None], record: StreamRecorder) -> None:
    item(record)


def _break(record: StreamRecorder) -> None:
    raise AssertionError("raised by the stream instead")
