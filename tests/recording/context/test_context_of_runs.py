"""Parents of other libraries' spans: in tools, output functions, requests, sub-agents, and in the caller."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from pydantic_ai import Agent, TextOutput
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings

from sidestream import InMemoryExporter, Sidecar
from sidestream.recording.span_context import ActiveSpan, SpanRef
from tests.support.application_spans import (
    INVALID,
    Application,
    Model,
    SpanExporter,
    agent_of,
    begun_by,
    here,
    parent_id,
    span_id,
    trace_id,
)

# --- ways to run an agent --------------------------------------------------------------------------------------------


async def run(agent: Agent, body: Callable[[], None]) -> None:
    await agent.run("go")
    body()


async def run_stream(agent: Agent, body: Callable[[], None]) -> None:
    async with agent.run_stream("go") as result:
        body()
        async for _ in result.stream_text(debounce_by=None):
            body()
    body()


async def run_stream_events(agent: Agent, body: Callable[[], None]) -> None:
    async with agent.run_stream_events("go") as events:
        async for _ in events:
            body()
    body()


async def node_stream(agent: Agent, body: Callable[[], None]) -> None:
    async with agent.iter("go") as agent_run:
        async for node in agent_run:
            body()
            if Agent.is_model_request_node(node) or Agent.is_call_tools_node(node):
                async with node.stream(agent_run.ctx) as events:
                    async for _ in events:
                        body()
    body()


async def iterate(agent: Agent, body: Callable[[], None]) -> None:
    async with agent.iter("go") as agent_run:
        async for _ in agent_run:
            body()
    body()


MODES: list[Callable[[Agent, Callable[[], None]], Coroutine[Any, Any, None]]] = [
    run,
    run_stream,
    run_stream_events,
    node_stream,
    iterate,
]
every_mode = pytest.mark.parametrize("mode", MODES)


# --- where there is an exporter of spans -----------------------------------------------------------------------------


@every_mode
def test_spans_of_a_tool_and_of_the_provider_hang_from_the_tool_and_the_request(
    mode: Any, log: SpanExporter, application: Application
) -> None:
    model = Model("look")

    def look() -> None:
        with application.tracer.start_as_current_span("query"):
            pass

    async def main() -> None:
        with application.tracer.start_as_current_span("handler"):
            await mode(log.sidecar.observe(agent_of(look, model=model)), lambda: None)

    asyncio.run(main())
    handler, query = application.span("handler"), application.span("query")
    start = log.one("agent_start")
    assert (start.data.trace_id, start.data.parent_span_id) == (trace_id(handler), span_id(handler))
    assert parent_id(query) == begun_by(log.one("tool_start"))
    assert trace_id(query) == trace_id(handler)
    assert model.asked_in == [begun_by(event) for event in log.of("llm_start")]


@every_mode
def test_the_caller_is_in_the_context_that_it_made(mode: Any, log: SpanExporter, application: Application) -> None:
    def nothing() -> None: ...

    async def main() -> None:
        with application.tracer.start_as_current_span("handler"):
            before = context.get_current()
            seen: list[Any] = []
            await mode(log.sidecar.observe(agent_of(nothing)), lambda: seen.append(context.get_current()))
            assert seen
            assert all(each is before for each in seen)
            assert context.get_current() is before

    asyncio.run(main())


@every_mode
def test_baggage_reaches_the_tool(mode: Any, log: SpanExporter) -> None:
    seen: list[Any] = []

    def look() -> None:
        seen.append(baggage.get_all())

    async def main() -> None:
        context.attach(baggage.set_baggage("tenant", "acme"))
        await mode(log.sidecar.observe(agent_of(look)), lambda: None)

    asyncio.run(main())
    assert seen == [{"tenant": "acme"}]


def test_tools_at_the_same_time_have_each_its_own(log: SpanExporter, application: Application) -> None:
    together = asyncio.Barrier(3)

    async def work(name: str) -> None:
        await together.wait()
        with application.tracer.start_as_current_span(name):
            await together.wait()

    async def first() -> None:
        await work("first")

    async def second() -> None:
        await work("second")

    async def third() -> None:
        await work("third")

    asyncio.run(log.sidecar.observe(agent_of(first, second, third)).run("go"))
    for name in ("first", "second", "third"):
        assert parent_id(application.span(name)) == begun_by(log.one("tool_start", tool_name=name))


def test_a_tool_in_a_thread_has_it_too(log: SpanExporter, application: Application) -> None:
    async def look() -> None:
        def in_thread() -> None:
            with application.tracer.start_as_current_span("query"):
                pass

        await asyncio.to_thread(in_thread)

    asyncio.run(log.sidecar.observe(agent_of(look)).run("go"))
    assert parent_id(application.span("query")) == begun_by(log.one("tool_start"))


def test_spans_of_an_output_function_hang_from_the_run(log: SpanExporter, application: Application) -> None:
    def format_answer(text: str) -> str:
        with application.tracer.start_as_current_span("format"):
            return text

    model = FunctionModel(Model().request)

    async def main() -> None:
        await log.sidecar.observe(Agent(model, output_type=TextOutput(format_answer))).run("go")
        assert here() == INVALID

    asyncio.run(main())
    assert parent_id(application.span("format")) == log.one("agent_start").data.span_id


def test_what_the_code_inside_leaves_in_the_context_stays_and_the_span_does_not() -> None:
    def main() -> None:
        inside = ActiveSpan(SpanRef("a" * 32, "b" * 16, sampled=True))
        context.attach(baggage.set_baggage("left", "behind"))
        assert here() == "b" * 16
        inside.leave()
        assert here() == INVALID
        assert baggage.get_all() == {"left": "behind"}

    contextvars.copy_context().run(main)


def test_leaving_elsewhere_changes_nothing_there() -> None:
    inside = contextvars.copy_context().run(lambda: ActiveSpan(SpanRef("a" * 32, "b" * 16)))
    before = context.get_current()
    inside.leave()
    assert context.get_current() is before


def test_a_tool_that_fails_or_is_cancelled_leaves_nothing_behind(log: SpanExporter) -> None:
    async def fails() -> None:
        raise ValueError("a bug")

    async def hangs() -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        before = context.get_current()
        with pytest.raises(ValueError, match="a bug"):
            await log.sidecar.observe(agent_of(fails)).run("go")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await log.sidecar.observe(agent_of(hangs)).run("go")
        assert context.get_current() is before

    asyncio.run(main())


def test_tasks_that_pull_one_piece_each_are_left_as_they_were(log: SpanExporter, application: Application) -> None:
    agent = log.sidecar.observe(agent_of())

    async def pieces() -> AsyncIterator[str]:
        async with agent.run_stream_events("go") as events:
            async for event in events:
                yield event.event_kind

    async def main() -> None:
        stream = pieces()

        async def pull() -> str | None:
            with application.tracer.start_as_current_span("pull") as span:
                piece = await anext(stream, None)
                assert here() == span_id(span)
                return piece

        while await asyncio.create_task(pull()) is not None:
            assert here() == INVALID

    asyncio.run(main())
    assert log.one("agent_end").data.outcome == "completed"


# --- sub-agents, with and without one --------------------------------------------------------------------------------


def nested(sidecar: Sidecar, within: Any) -> None:
    """Parent whose tool runs a child inside the context manager `within()`, inside a span of the application."""
    child = sidecar.observe(agent_of(name="child"))

    async def delegate() -> str:
        with within():
            return (await child.run("go")).output

    asyncio.run(sidecar.observe(agent_of(delegate, name="parent")).run("go"))


@pytest.mark.parametrize("spans", [True, False])
@pytest.mark.parametrize("handler", [True, False])
def test_a_sub_agent_hangs_from_the_tool_that_runs_it(spans: bool, handler: bool, application: Application) -> None:
    """With or without ids in the context, a replay of the log produces the same tree."""
    exporter = SpanExporter() if spans else InMemoryExporter()
    with Sidecar(exporter) as sidecar:
        if handler:
            with application.tracer.start_as_current_span("handler"):
                nested(sidecar, lambda: trace.use_span(trace.get_current_span()))
        else:
            nested(sidecar, lambda: trace.use_span(trace.get_current_span()))
    parent, child = exporter.of("agent_start")
    (tool,) = exporter.of("tool_start")
    assert child.data.parent_span_id == begun_by(tool)
    assert child.data.trace_id == parent.data.trace_id
    assert parent.data.parent_span_id == (span_id(application.span("handler")) if handler else None)


@pytest.mark.parametrize("spans", [True, False])
def test_a_sub_agent_in_a_span_of_the_tools_own_hangs_from_that(spans: bool, application: Application) -> None:
    exporter = SpanExporter() if spans else InMemoryExporter()
    with Sidecar(exporter) as sidecar, application.tracer.start_as_current_span("handler"):
        nested(sidecar, lambda: application.tracer.start_as_current_span("work"))
    _, child = exporter.of("agent_start")
    assert child.data.parent_span_id == span_id(application.span("work"))
    assert child.data.trace_id == trace_id(application.span("handler"))


@pytest.mark.parametrize("spans", [True, False])
def test_an_agent_run_by_a_tapped_generator_hangs_from_its_run(spans: bool) -> None:
    exporter = SpanExporter() if spans else InMemoryExporter()
    with Sidecar(exporter) as sidecar:
        child = sidecar.observe(agent_of(name="child"))

        async def answer() -> AsyncIterator[str]:
            yield (await child.run("go")).output

        async def main() -> None:
            assert [item async for item in sidecar.tap(answer(), agent_name="tapped")] == ["done"]

        asyncio.run(main())
    tapped, inner = exporter.of("agent_start")
    assert inner.data.parent_span_id == tapped.data.span_id
    assert inner.data.trace_id == tapped.data.trace_id


# --- where pydantic-ai makes spans itself ----------------------------------------------------------------------------


def test_with_instrumentation_the_context_is_left_to_it(log: SpanExporter, application: Application) -> None:
    def look() -> None:
        with application.tracer.start_as_current_span("query"):
            pass

    settings = InstrumentationSettings(tracer_provider=application.provider)
    agent = log.sidecar.observe(agent_of(look, capabilities=[Instrumentation(settings=settings)]))
    asyncio.run(agent.run("go"))
    start = log.one("agent_start")
    assert start.data.instrumented is True
    assert start.data.parent_span_id == span_id(application.span("invoke_agent clerk"))
    assert parent_id(application.span("query")) == span_id(application.span("execute_tool look"))


def test_instrumentation_that_goes_nowhere_is_none(log: SpanExporter) -> None:
    """No tracer provider is set up, so pydantic-ai's spans do not exist."""
    seen: list[str] = []

    def look() -> None:
        seen.append(here())

    asyncio.run(log.sidecar.observe(agent_of(look, capabilities=[Instrumentation()])).run("go"))
    assert log.one("agent_start").data.instrumented is None
    assert seen == [begun_by(log.one("tool_start"))]


def test_a_sub_agent_of_an_instrumented_run_hangs_from_a_span_that_exists(
    log: SpanExporter, application: Application
) -> None:
    child = log.sidecar.observe(agent_of(name="child"))

    async def delegate() -> str:
        return (await child.run("go")).output

    settings = InstrumentationSettings(tracer_provider=application.provider)
    agent = agent_of(delegate, name="parent", capabilities=[Instrumentation(settings=settings)])
    asyncio.run(log.sidecar.observe(agent).run("go"))
    tool = application.span("execute_tool delegate")
    start = log.one("agent_start", agent_name="child")
    assert start.data.parent_span_id == span_id(tool)
    assert start.data.instrumented is None


# --- where there is no exporter of spans -----------------------------------------------------------------------------


@every_mode
def test_without_an_exporter_of_spans_the_context_is_not_touched(mode: Any) -> None:
    memory = InMemoryExporter()
    seen: list[Any] = []

    class Asked(Model):
        def _said(self, messages: Any) -> bool:
            seen.append(context.get_current())
            return super()._said(messages)

    def look() -> None:
        seen.append(context.get_current())

    async def main() -> None:
        before = context.Context({"mine": 1})
        context.attach(before)
        with Sidecar(memory) as sidecar:
            await mode(sidecar.observe(agent_of(look, model=Asked("look"))), lambda: seen.append(context.get_current()))
        assert len(seen) >= 3
        assert all(each is before for each in seen)

    asyncio.run(main())


def test_a_failure_of_ours_is_counted_and_no_more(
    application: Application, log: SpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, span: Any) -> None:
        raise RuntimeError("a bug of ours")

    def look() -> str:
        return "seen"

    exporter = SpanExporter()
    with Sidecar(exporter) as sidecar:
        monkeypatch.setattr("sidestream.recording.span_context.ActiveSpan.__init__", broken)
        result = asyncio.run(sidecar.observe(agent_of(look)).run("go"))
        assert result.output == "done"
        assert sidecar.stats().recording_errors == 4, "two requests, the tool and the output"
    assert [event.data.outcome for event in exporter.of("tool_end")] == ["ok"]
