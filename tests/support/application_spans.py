"""Helpers for context tests: spans of the application, a span exporter, and a model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from sidestream import InMemoryExporter, Sidecar
from sidestream.events import StreamEvent

INVALID = "0" * 16


class SpanExporter(InMemoryExporter):
    """In-memory exporter with `spans`, so that span ids are put into the context."""

    name = "spans"
    spans = True
    sidecar: Sidecar

    def one(self, event_type: str, **wanted: Any) -> StreamEvent:
        """The only event of a type whose payload or envelope has the given values."""
        self.sidecar.flush()
        (event,) = (
            event
            for event in self.of(event_type)
            if all(getattr(event, name, event.data.get(name)) == value for name, value in wanted.items())
        )
        return event


class Application:
    """Instrumented application with its own tracer provider."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("application")

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """Finished spans, in order."""
        return self._exporter.get_finished_spans()

    def span(self, name: str) -> ReadableSpan:
        (span,) = (span for span in self.spans if span.name == name)
        return span


def trace_id(span: Any) -> str:
    return trace.format_trace_id(span.get_span_context().trace_id)


def span_id(span: Any) -> str:
    return trace.format_span_id(span.get_span_context().span_id)


def parent_id(span: ReadableSpan) -> str | None:
    return trace.format_span_id(span.parent.span_id) if span.parent else None


def here() -> str:
    """Id of the current span."""
    return span_id(trace.get_current_span())


def begun_by(event: StreamEvent) -> str:
    """Id of the span that the event starts."""
    assert event.data.span_id is not None
    return event.data.span_id


class Model:
    """Model that calls `tools` in one answer and then answers "done". Records the span current in each request."""

    def __init__(self, *tools: str) -> None:
        self.tools = tools
        self.asked_in: list[str] = []

    def _said(self, messages: list[ModelMessage]) -> bool:
        self.asked_in.append(here())
        return not self.tools or any(isinstance(message, ModelResponse) for message in messages)

    async def request(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if self._said(messages):
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(parts=[ToolCallPart(name, {}, f"call-{i}") for i, name in enumerate(self.tools)])

    async def stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if self._said(messages):
            for piece in ("do", "ne", "!"):
                yield piece
            return
        for i, name in enumerate(self.tools):
            yield {i: DeltaToolCall(name=name, json_args="{}", tool_call_id=f"call-{i}")}


def agent_of(*tools: Callable[..., Any], name: str = "clerk", model: Model | None = None, **settings: Any) -> Agent:
    """Agent that calls each of `tools` once, all in one answer."""
    model = model or Model(*(tool.__name__ for tool in tools))
    function = FunctionModel(model.request, stream_function=model.stream, model_name="function:context")
    return Agent(function, name=name, tools=tools, **settings)
