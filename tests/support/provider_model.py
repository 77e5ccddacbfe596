"""Scripted model that behaves like a provider's, and agents whose runs produce every event type."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from pydantic_ai import Agent, CallDeferred, CustomEvent, DeferredToolRequests, ModelRetry, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ThinkingPart, ToolCallPart, UserPromptPart
from pydantic_ai.models import Model, StreamedResponse
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.usage import RequestUsage

from sidestream import Sidecar


@dataclass(frozen=True)
class Facts:
    """Facts that a provider reports beside the answer."""

    usage: RequestUsage | None = None
    details: dict[str, Any] | None = None


Step: TypeAlias = str | ThinkingPart | ToolCallPart | Facts | Exception
Answer: TypeAlias = Sequence[Step]


@dataclass
class Says(Model):
    """Model with one answer for each request of a run; the last answer is repeated.

    A streamed text arrives as listed, arguments and thinking in two pieces; an exception is raised at its position.
    """

    answers: Sequence[Answer]
    name: str = "gpt-5"
    """Model name in the response."""
    asked: str = ""
    """Requested model name, if different."""
    vendor: str = "openai"
    url: str = "https://api.openai.com/v1"

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def model_name(self) -> str:
        return self.asked or self.name

    @property
    def system(self) -> str:
        return self.vendor

    @property
    def base_url(self) -> str:
        return self.url

    def _steps(self, messages: Sequence[ModelMessage]) -> Answer:
        said = 0
        for message in messages:  # since the last prompt, ignoring earlier history
            said = 0 if any(isinstance(part, UserPromptPart) for part in message.parts) else said
            said += isinstance(message, ModelResponse)
        return self.answers[min(said, len(self.answers) - 1)]

    async def request(self, messages: list[ModelMessage], model_settings: Any, parameters: Any) -> ModelResponse:
        parts: list[Any] = []
        facts = Facts()
        for step in self._steps(messages):
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Facts):
                facts = step
            elif isinstance(step, str) and parts and isinstance(parts[-1], TextPart):
                parts[-1] = TextPart(parts[-1].content + step)
            else:
                parts.append(TextPart(step) if isinstance(step, str) else step)
        return ModelResponse(
            parts,
            model_name=self.name,
            provider_name=self.vendor,
            provider_url=self.url,
            provider_details=facts.details,
            usage=facts.usage or RequestUsage(),
        )

    @asynccontextmanager
    async def request_stream(
        self, messages: list[ModelMessage], model_settings: Any, parameters: Any, run_context: Any = None
    ) -> AsyncIterator[StreamedResponse]:
        _, parameters = self.prepare_request(model_settings, parameters)
        yield _Streamed(model_request_parameters=parameters, model=self, steps=self._steps(messages))


@dataclass
class _Streamed(StreamedResponse):
    model: Says = field(kw_only=True)
    steps: Answer = field(kw_only=True)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def _get_event_iterator(self) -> AsyncIterator[Any]:
        manager = self._parts_manager
        for number, step in enumerate(self.steps):
            await asyncio.sleep(0)
            match step:
                case Exception():
                    raise step
                case Facts():
                    self._usage = step.usage or self._usage
                    self.provider_details = step.details or self.provider_details
                case str():
                    for event in manager.handle_text_delta(vendor_part_id="text", content=step):
                        yield event
                case ThinkingPart():
                    for piece in _halves(step.content):
                        for event in manager.handle_thinking_delta(vendor_part_id=number, content=piece):
                            yield event
                case ToolCallPart():
                    name: str | None = step.tool_name
                    for piece in _halves(step.args_as_json_str()):
                        begun_or_more = manager.handle_tool_call_delta(
                            vendor_part_id=number, tool_name=name, args=piece, tool_call_id=step.tool_call_id
                        )
                        name = None
                        if begun_or_more is not None:
                            yield begun_or_more

    async def close_stream(self) -> None:
        pass

    @property
    def model_name(self) -> str:
        return self.model.name

    @property
    def provider_name(self) -> str:
        return self.model.vendor

    @property
    def provider_url(self) -> str:
        return self.model.url

    @property
    def timestamp(self) -> datetime:
        return self.at


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def used(input_tokens: int, output_tokens: int, **more: Any) -> Facts:
    """Usage of an answer."""
    return Facts(RequestUsage(input_tokens=input_tokens, output_tokens=output_tokens, **more))


def call(tool: str, args: dict[str, Any] | str | None = None, id: str = "") -> ToolCallPart:
    """Tool call of an answer."""
    return ToolCallPart(tool, args if args is not None else {}, tool_call_id=id or f"call-{tool}")


async def stream(agent: Agent[Any, Any], prompt: Any = "go", **options: Any) -> Any:
    """Run `agent` streaming to the end; returns the output."""
    async with agent.run_stream_events(prompt, **options) as events:
        last: Any = None
        async for event in events:
            last = event
    return last.result.output if last is not None else None


# --- a variety of runs ---------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Halfway(CustomEvent):
    """Custom event of the application."""

    note: str


def variety_agents(word: str = "word") -> list[Agent[Any, Any]]:
    """Agents whose runs together produce every event type and most outcomes; `word` is part of all content."""
    child = Agent(Says([[word, " from below", used(5, 2)]]), name="child", instructions=word)
    parent = Agent(
        Says(
            [
                [ThinkingPart(word), call("flaky", {"query": word}), call("ask_child", {"question": word})],
                [call("flaky", {"query": word}, "call-again"), call("no_such_tool", {"x": word}), used(20, 4)],
                [call("strict", {"number": f"not a number: {word}"}), used(21, 4)],
                ["all ", "done ", word, used(30, 6)],
            ]
        ),
        name="parent",
        system_prompt=f"You are {word}",
        instructions=f"Say {word}",
        retries=3,
    )

    @parent.tool
    async def flaky(ctx: RunContext[Any], query: str) -> dict[str, Any]:
        await ctx.emit(Halfway(note=word))
        if ctx.retry == 0:
            raise ModelRetry(f"again: {word}")
        return {"found": word, "list": [1, 2.5, None, {"nested": word}]}

    @parent.tool
    async def ask_child(ctx: RunContext[Any], question: str) -> str:
        return str((await child.run(question, usage=ctx.usage)).output)

    @parent.tool_plain
    def strict(number: int) -> int:
        return number

    breaking = Agent(Says([[call("breaks", {"why": word})]]), name="breaking")

    @breaking.tool_plain
    def breaks(why: str) -> str:
        raise RuntimeError(f"broken: {why}")

    deferring = Agent(
        Says([[call("later", {"what": word})]]), name="deferring", output_type=[str, DeferredToolRequests]
    )

    @deferring.tool_plain
    def later(what: str) -> str:
        raise CallDeferred(metadata={"why": word})

    structured = Agent(
        Says([[call("final_result", {"title": word, "tags": [word]}), used(9, 9)]]),
        name="structured",
        output_type=Report,
    )
    refusing = Agent(Says([["no", used(1, 1)]]), name="refusing", retries=1)

    @refusing.output_validator
    def refuse(output: str) -> str:
        raise ModelRetry(f"not good enough: {word}")

    failing = Agent(Says([[f"so far {word}", RuntimeError(f"the provider said {word}")]]), name="failing")
    first = Says([[RuntimeError(f"overloaded: {word}")]], name="gpt-5-mini")
    falling_back = Agent(
        FallbackModel(first, Says([["ok ", word, used(3, 3)]]), fallback_on=(RuntimeError,)), name="falling_back"
    )
    all_down = Agent(FallbackModel(first, first, fallback_on=(RuntimeError,)), name="all_down")
    return [parent, breaking, deferring, structured, refusing, failing, falling_back, all_down, child]


@dataclass
class Report:
    """Structured output."""

    title: str
    tags: list[str]


def run_variety(sidecar: Sidecar, word: str = "word", **options: Any) -> None:
    """Run all `variety_agents`, streaming and not, plus a cancelled and an abandoned run, under `sidecar`."""

    async def main() -> None:
        agents = variety_agents(word)
        for agent in agents:
            sidecar.observe(agent)
        for agent in agents:
            with suppress(Exception):
                await agent.run(f"prompt {word}", **options)
            with suppress(Exception):
                await stream(agent, f"prompt {word}", **options)
        endless = sidecar.observe(Agent(Says([["a", " ", word, "b"] * 50]), name="left"))
        async with endless.run_stream_events(f"prompt {word}", **options) as events:
            async for _ in events:
                break
        listening = asyncio.Event()

        async def listen() -> None:
            async with endless.run_stream(f"prompt {word}", **options) as result:
                async for _ in result.stream_text(delta=True, debounce_by=None):
                    listening.set()
                    await asyncio.sleep(60)

        task = asyncio.create_task(listen())
        await listening.wait()
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
