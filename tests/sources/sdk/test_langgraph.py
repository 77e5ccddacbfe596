"""The real LangGraph, observed by `install()`: graphs, nodes, models, tools, sub-graphs, and the callers' view."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import sidestream
from sidestream import InMemoryExporter
from sidestream.recording.context import current
from tests.support.langgraph_runs import GIVEN, exchanges, graph, langgraph
from tests.support.provider_server import replay
from tests.support.sdk_observed import Installed

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel  # isort: skip
from langchain_core.messages import AIMessage, ToolCall  # isort: skip
from langchain_core.runnables import RunnableConfig  # isort: skip
from langchain_core.tools import tool  # isort: skip

TOLD = [
    ("custom", "node"),
    ("request", "gpt-5-mini"),
    ("text", "I will look."),
    ("tool_call", "look", '{"at": "A-1"}'),
    ("request ends", "ok", "tool_call", (1000, 20)),
    ("custom", "node"),
    ("tool", "look", {"at": "A-1"}),
    ("tool ends", "look", "ok"),
    ("custom", "node"),
    ("request", "gpt-5-mini"),
    ("text", "at A-1"),
    ("request ends", "ok", "stop", (30, 4)),
    ("result", "at A-1"),
    ("run ends", "completed"),
]


def both(run: Callable[[], Any], sdk: str | None = None) -> tuple[Any, Installed]:
    """View of the callers of `run`, equal bare and observed; and the log."""
    views: list[Any] = []
    for observed in (False, True):
        if observed:
            memory = InMemoryExporter()
            installed = Installed(sidestream.install(memory, sdk=sdk), memory)
        try:
            views.append(run())
        except Exception as error:
            views.append((type(error), str(error)))
    assert current.get() is None
    installed.runs()
    sidestream.uninstall()
    assert views[0] == views[1]
    return views[0], installed


def outline_of(installed: Installed) -> list[tuple[Any, ...]]:
    [told] = installed.outlines()
    return told


def graph_of(**nodes: Any) -> Any:
    """Graph with sequential nodes."""
    made = langgraph.StateGraph(langgraph.MessagesState)
    before = langgraph.START
    for name, node in nodes.items():
        made.add_node(name, node)
        made.add_edge(before, name)
        before = name
    return made.compile(name="made")


def asking(model: Any) -> Any:
    """Node that calls a model."""
    return lambda state: {"messages": [model.invoke(state["messages"])]}


async def _invoke(made: Any, mode: Any) -> Any:
    return (await made.ainvoke(GIVEN, {"configurable": {"thread_id": "t-1"}}))["messages"][-1].content


async def _stream(made: Any, mode: Any) -> Any:
    stream = made.astream_events(GIVEN, version="v2") if mode == "events" else made.astream(GIVEN, stream_mode=mode)
    return inspect.isasyncgen(stream), [type(item) async for item in stream]


@pytest.mark.parametrize("mode", [None, "messages", ["values", "custom"], "events"])
def test_a_run_is_told_however_it_is_read(mode: Any) -> None:
    def run() -> Any:
        with replay(exchanges(mode in ("messages", "events"))) as server:
            return asyncio.run((_invoke if mode is None else _stream)(graph(server.url), mode))

    _, installed = both(run)
    assert outline_of(installed) == TOLD
    [events] = installed.runs()
    start = events[0]
    assert (start.agent_name, start.data.prompt) == ("finder", "Where?")
    assert start.data.conversation_id == ("t-1" if mode is None else None)
    nodes = [event.data.payload["node"] for event in events if event.event_type == "custom"]
    assert nodes == ["agent", "tools", "agent"]
    first = next(event.data for event in events if event.event_type == "llm_end")
    assert first.cost_usd == pytest.approx((600 * 0.25 + 400 * 0.025 + 20 * 2) / 1e6)
    assert (first.time_to_first_token_seconds is not None) == (mode in ("messages", "events"))


@pytest.mark.parametrize("streams", [False, True])
def test_requests_that_no_sdk_tells_are_told_by_the_callbacks(streams: bool) -> None:
    """Without an observed SDK of the model: single tokens, usage and cost are recorded nevertheless."""

    def run() -> Any:
        with replay(exchanges(streams)) as server:
            made = graph(server.url)
            return asyncio.run(_stream(made, "messages") if streams else _invoke(made, None))

    _, installed = both(run, sdk="langgraph")
    assert outline_of(installed) == TOLD
    first = next(event.data for event in installed.memory.events if event.event_type == "llm_end")
    assert first.cost_usd == pytest.approx((600 * 0.25 + 400 * 0.025 + 20 * 2) / 1e6)
    assert (first.streaming, first.time_to_first_token_seconds is not None) == (streams, streams)
    assert first.start_unknown is None


def test_a_tapped_graph_is_the_taps(installed: Installed) -> None:
    async def main(url: str) -> None:
        async for _ in installed.sidecar.tap(graph(url).astream(GIVEN, stream_mode="messages"), agent_name="tapped"):
            pass

    with replay(exchanges(True)) as server:
        asyncio.run(main(server.url))
    [events] = installed.runs()
    assert (events[0].agent_name, events[-1].data.usage.input_tokens) == ("tapped", 1030)


def test_graphs_within_nodes_and_tools_are_runs_below() -> None:
    """A graph as a node, in a node, and in a tool; sync, concurrently."""

    def run() -> Any:
        inner = graph_of(say=asking(GenericFakeChatModel(messages=iter([AIMessage(f"no {i}") for i in range(3)]))))

        @tool
        def ask(question: str) -> str:
            """Ask."""
            return str(inner.invoke({"messages": [("user", question)]})["messages"][-1].content)

        from langgraph.prebuilt import ToolNode

        called = AIMessage("", tool_calls=[ToolCall(name="ask", args={"question": "?"}, id="call_1")])
        outer = graph_of(
            inside=inner,
            by_hand=lambda state: inner.invoke(GIVEN),
            call=lambda s: {"messages": [called]},
            t=ToolNode([ask]),
        )
        return [type(item) for item in outer.stream(GIVEN)]

    _, installed = both(run)
    outer, *inner = installed.runs()
    assert outer[-1].data.sub_agents == 3
    starts = [events[0].data for events in inner]
    assert [start.parent_run_id for start in starts] == [outer[0].run_id] * 3
    assert [start.parent_tool_call_id for start in starts] == [None, None, "call_1"]
    texts = [told[2][1] for told in installed.outlines()[1:]]
    assert texts == ["no 0", "no 1", "no 2"]
    assert [row[0] for row in installed.outlines()[0]].count("request") == 0


def test_nodes_side_by_side() -> None:
    def run() -> Any:
        made = langgraph.StateGraph(langgraph.MessagesState)
        for name in "abc":
            made.add_node(name, asking(GenericFakeChatModel(messages=iter([AIMessage(name)]))))
            made.add_edge(langgraph.START, name)
        return sorted(str(message.content) for message in made.compile().invoke(GIVEN)["messages"])

    _, installed = both(run)
    told = outline_of(installed)
    assert sorted(row[1] for row in told if row[0] == "text") == ["a", "b", "c"]
    assert [row[0] for row in told].count("request ends") == 3


def _fails(state: Any) -> Any:
    raise ValueError("no such place")


def test_a_node_that_raises() -> None:
    view, installed = both(lambda: graph_of(fails=_fails).invoke(GIVEN))
    assert view[0] is ValueError
    assert outline_of(installed) == [("custom", "node"), ("error", "run", "ValueError"), ("run ends", "error")]


def test_a_tool_that_raises_and_a_model_that_fails() -> None:
    from langgraph.prebuilt import ToolNode

    @tool
    def broken(at: str) -> str:
        """Look."""
        raise ValueError("no such place")

    def run() -> Any:
        call = AIMessage("", tool_calls=[ToolCall(name="broken", args={"at": "A"}, id="call_1")])
        failing = GenericFakeChatModel(messages=map(_fails, [None]))
        nodes = {"call": lambda s: {"messages": [call]}, "tools": ToolNode([broken], handle_tool_errors=True)}
        return graph_of(**nodes, ask=asking(failing)).invoke(GIVEN)

    _, installed = both(run)
    told = [row for row in outline_of(installed) if row[0] != "custom"]
    assert told[:2] == [("tool", "broken", {"at": "A"}), ("tool ends", "broken", "failed")]
    assert told[3][:2] == ("error", "model")
    assert told[-2:] == [("request ends", "error", None, None), ("run ends", "error")]


def test_an_interrupt_is_no_error_and_what_follows_is_another_run() -> None:
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import Command, interrupt

    def confirm(state: Any) -> Any:
        return {"messages": [("user", interrupt("May I?"))]}

    def run() -> Any:
        made = langgraph.StateGraph(langgraph.MessagesState)
        made.add_node("confirm", confirm)
        made.add_edge(langgraph.START, "confirm")
        done = made.compile(checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "t-1"}}
        first = [list(item) for item in done.stream(GIVEN, config)]
        return first, done.invoke(Command(resume="yes"), config)["messages"][-1].content

    view, installed = both(run)
    assert view == ([["__interrupt__"]], "yes")
    first, second = installed.outlines()
    assert first == [("custom", "node"), ("custom", "interrupt"), ("run ends", "completed")]
    assert second == [("custom", "node"), ("result", "yes"), ("run ends", "completed")]


def test_a_hand_over_to_the_graph_around_is_no_error() -> None:
    from langgraph.types import Command

    def run() -> Any:
        inner = graph_of(over=lambda state: Command(graph=Command.PARENT, goto="last"))
        made = langgraph.StateGraph(langgraph.MessagesState)
        made.add_node("inner", inner)
        made.add_node("last", lambda state: {"messages": [("user", "done")]})
        made.add_edge(langgraph.START, "inner")
        return made.compile().invoke(GIVEN)["messages"][-1].content

    view, installed = both(run)
    assert view == "done"
    assert [told[-1] for told in installed.outlines()] == [("run ends", "completed")] * 2


@pytest.mark.parametrize("is_async", [False, True])
def test_leaving_early(is_async: bool) -> None:
    made = graph_of(a=lambda state: {}, b=lambda state: {})

    async def aleave() -> list[Any]:
        async for item in made.astream(GIVEN, stream_mode="updates"):
            return list(item)
        return []

    def run() -> list[Any]:
        if is_async:
            return asyncio.run(aleave())
        for item in made.stream(GIVEN, stream_mode="updates"):
            assert current.get() is None
            return list(item)
        return []

    view, installed = both(run)
    assert view == ["a"]
    assert outline_of(installed) == [("custom", "node"), ("run ends", "abandoned")]


def _waits(reached: Callable[[], Any]) -> Any:
    async def wait(state: Any) -> None:
        reached()
        await asyncio.sleep(60)

    return wait


@pytest.mark.parametrize("how", ["cancelled", "timed_out"])
def test_cancellation(how: str) -> None:
    async def cancelled() -> str:
        waiting = asyncio.Event()
        task = asyncio.create_task(graph_of(wait=_waits(waiting.set)).ainvoke(GIVEN))
        await waiting.wait()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        return "not"

    async def timed_out() -> str:
        try:
            async with asyncio.timeout(None) as limit:
                await graph_of(wait=_waits(lambda: limit.reschedule(0))).ainvoke(GIVEN)
        except TimeoutError:
            return "timed_out"
        return "not"

    view, installed = both(lambda: asyncio.run(cancelled() if how == "cancelled" else timed_out()))
    assert view == how
    assert outline_of(installed)[-1] == ("run ends", how)


def test_a_stream_that_the_loop_closes_at_its_end() -> None:
    """The event loop knows one generator, as without observation; closing two of them would log an error."""
    complaints: list[Any] = []
    kept: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        kept.append(stream := graph_of(a=lambda state: {}, b=lambda state: {}).astream(GIVEN, stream_mode="updates"))
        await anext(stream)

    _, installed = both(lambda: asyncio.run(main()))
    assert complaints == []
    assert outline_of(installed)[-1] == ("run ends", "abandoned")


def test_a_node_may_copy_its_configuration(installed: Installed) -> None:
    seen: list[Any] = []

    def copies(state: Any, config: Any) -> Any:
        handlers = config["callbacks"].handlers
        seen.append((copy.deepcopy(handlers), pickle.loads(pickle.dumps(handlers))))
        return {}

    copies.__annotations__["config"] = RunnableConfig
    graph_of(copies=copies).invoke(GIVEN)
    [(copied, sent)] = seen
    assert [type(each).__name__ for each in (*copied, *sent)] == ["Handler", "BaseCallbackHandler"]


def test_it_is_undone() -> None:
    from langchain_core.tracers.context import _configure_hooks
    from langgraph.pregel import Pregel

    before = Pregel.stream, Pregel.astream, list(_configure_hooks)
    sidestream.install("memory", sdk="langgraph")
    assert Pregel.stream is not before[0]
    sidestream.uninstall()
    assert (Pregel.stream, Pregel.astream, _configure_hooks) == before


def test_a_run_that_goes_on_when_nobody_listens_any_more() -> None:
    sidestream.install("memory", sdk="langgraph")
    stream = graph_of(a=lambda state: {}, b=lambda state: {}).stream(GIVEN, stream_mode="updates")
    assert list(next(stream)) == ["a"]
    sidestream.uninstall()
    assert [list(item) for item in stream] == [["b"]]
