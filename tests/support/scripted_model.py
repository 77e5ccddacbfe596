"""Scripted model, streaming or not, and agents made with it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.usage import RequestUsage

FOREVER = 3600.0


@dataclass
class Scene:
    """State of a played run, for tasks that wait for a moment of the run."""

    stuck: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the model or a tool has started an endless wait."""
    task: asyncio.Task[Any] | None = None
    """Task of the caller."""
    seen: list[Any] = field(default_factory=list)
    """Items received by the caller so far, as plain values."""
    turns: defaultdict[int, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    """Events for tasks that wait for each other."""

    async def wait(self) -> None:
        """Wait endlessly."""
        self.stuck.set()
        await asyncio.sleep(FOREVER)

    async def until_stuck(self) -> None:
        """Wait until the run has started an endless wait, and no other task is active."""
        async with asyncio.timeout(20):
            await self.stuck.wait()
        await asyncio.sleep(0.01)


scene: ContextVar[Scene] = ContextVar("scene")


@dataclass(frozen=True)
class Think:
    """Piece of thinking."""

    text: str


@dataclass(frozen=True)
class Call:
    """Tool call whose arguments arrive in `pieces` pieces."""

    tool: str
    args: str = "{}"
    id: str = "call-1"
    pieces: int = 1

    def deltas(self) -> Iterator[DeltaToolCall]:
        """Deltas of the call as streamed by a provider: name and id in the first one."""
        size = max(1, -(-len(self.args) // self.pieces))
        for start in range(0, len(self.args), size):
            name, call_id = (self.tool, self.id) if start == 0 else (None, None)
            yield DeltaToolCall(name=name, json_args=self.args[start : start + size], tool_call_id=call_id)


@dataclass(frozen=True)
class Stuck:
    """Endless silence of the provider."""


@dataclass(frozen=True)
class Pause:
    """Pause of the provider."""

    seconds: float


@dataclass(frozen=True)
class Fail:
    """Broken connection to the provider."""

    error: Callable[[], Exception]


@dataclass(frozen=True)
class Used:
    """Usage of an answer without streaming."""

    input_tokens: int
    output_tokens: int


Step: TypeAlias = str | Think | Call | Pause | Stuck | Fail | Used
"""Steps of an answer; a string is a piece of text."""


@dataclass
class Script:
    """Answers of a model: one list of steps for each request of a run; the last list is repeated."""

    answers: Sequence[Sequence[Step]]
    calls: list[str] = field(default_factory=list)
    """`request` or `stream` for each call of the model."""

    def _answer(self, messages: list[ModelMessage]) -> Sequence[Step]:
        said = sum(isinstance(message, ModelResponse) for message in messages)
        return self.answers[min(said, len(self.answers) - 1)]

    async def request(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.calls.append("request")
        parts: list[Any] = []
        usage = RequestUsage()
        for step in self._answer(messages):
            match step:
                case str() if parts and isinstance(parts[-1], TextPart):
                    parts[-1].content += step
                case str():
                    parts.append(TextPart(step))
                case Think():
                    parts.append(ThinkingPart(step.text))
                case Call():
                    parts.append(ToolCallPart(step.tool, step.args, tool_call_id=step.id))
                case Pause():
                    await asyncio.sleep(step.seconds)
                case Stuck():
                    await scene.get().wait()
                case Fail():
                    raise step.error()
                case Used():
                    usage = RequestUsage(input_tokens=step.input_tokens, output_tokens=step.output_tokens)
        return ModelResponse(parts=parts, usage=usage)

    async def stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        self.calls.append("stream")
        for index, step in enumerate(self._answer(messages)):
            match step:
                case str():
                    yield step
                case Think():
                    yield {index: DeltaThinkingPart(content=step.text)}
                case Call():
                    for delta in step.deltas():
                        yield {index: delta}
                case Pause():
                    await asyncio.sleep(step.seconds)
                case Stuck():
                    await scene.get().wait()
                case Fail():
                    raise step.error()
                case Used():
                    pass


def scripted(*answers: Sequence[Step], name: str = "function:scripted") -> FunctionModel:
    """Model with `answers`, one for each request of a run."""
    script = Script(answers)
    model = FunctionModel(script.request, stream_function=script.stream, model_name=name)
    model.script = script  # type: ignore[attr-defined]
    return model


def calls_of(model: Any) -> list[str]:
    """Calls of a scripted model, or of all models behind a fallback model."""
    if isinstance(model, FallbackModel):
        return [call for each in model.models for call in calls_of(each)]
    script: Script = model.script
    return script.calls


def agent_of(*answers: Sequence[Step], tools: Sequence[Any] = (), **settings: Any) -> Agent[Any, Any]:
    """Agent whose model gives `answers`."""
    model = settings.pop("model", None) or scripted(*answers)
    return Agent(model, name=settings.pop("name", "clerk"), tools=tools, **settings)
