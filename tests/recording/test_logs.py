"""Correlation of the application's own log lines with runs."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import logging
import queue
from collections.abc import AsyncIterator, Iterator, MutableMapping
from logging.handlers import QueueHandler, QueueListener
from typing import Any

import pytest
import structlog
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from sidestream import InMemoryExporter, Sidecar, current_run, diagnostics
from sidestream.recording import correlation as logs

FORMAT = "[%(sidestream_run_id)s|%(sidestream_agent)s|%(sidestream_tool_call_id)s] %(message)s"


@pytest.fixture
def memory() -> InMemoryExporter:
    return InMemoryExporter()


@pytest.fixture
def sidecar(memory: InMemoryExporter) -> Iterator[Sidecar]:
    with Sidecar(memory) as sidecar:
        yield sidecar


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """Log lines of structlog, configured as in an application."""
    kept: list[dict[str, Any]] = []

    def keep(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> Any:
        kept.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, logs.add_run, keep])
    yield kept
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def an_agent(sidecar: Sidecar, in_tool: Any) -> Agent[None, str]:
    agent = sidecar.observe(Agent(TestModel(), name="clerk"))
    agent.tool_plain(name="look")(in_tool)
    return agent


@pytest.fixture
def text_log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(logs.RunFilter())
    handler.setFormatter(logging.Formatter(FORMAT))
    logger = logging.getLogger("an.application")
    logger.addHandler(handler)
    yield logger, out
    logger.removeHandler(handler)


# --- structlog -----------------------------------------------------------------------------------------------------


def test_a_line_written_in_a_tool_has_the_runs_and_the_calls_ids(
    sidecar: Sidecar, memory: InMemoryExporter, lines: list[dict[str, Any]]
) -> None:
    def look() -> str:
        structlog.get_logger().info("looking", at="A-1")
        return "seen"

    an_agent(sidecar, look).run_sync("go")
    sidecar.flush()
    start, tool = memory.of("agent_start")[0], memory.of("tool_start")[0]
    assert lines == [
        {
            "event": "looking",
            "at": "A-1",
            "run_id": start.run_id,
            "root_run_id": start.run_id,
            "agent": "clerk",
            "tool_call_id": tool.data.tool_call_id,
            "trace_id": start.data.trace_id,
        }
    ]


def test_outside_a_run_a_line_is_as_it_was(sidecar: Sidecar, lines: list[dict[str, Any]]) -> None:
    structlog.get_logger().info("before")
    an_agent(sidecar, lambda: "seen").run_sync("go")
    structlog.get_logger().info("after")
    assert lines == [{"event": "before"}, {"event": "after"}]


def test_the_applications_own_keys_win(sidecar: Sidecar, lines: list[dict[str, Any]]) -> None:
    """Keys of the log line and of `structlog.contextvars`."""

    def look() -> str:
        with structlog.contextvars.bound_contextvars(trace_id="theirs"):
            structlog.get_logger().info("looking", run_id="mine")
        return "seen"

    an_agent(sidecar, look).run_sync("go")
    (line,) = lines
    assert (line["run_id"], line["trace_id"], line["agent"]) == ("mine", "theirs", "clerk")


def test_a_sub_agents_line_names_it_and_the_root(
    sidecar: Sidecar, memory: InMemoryExporter, lines: list[dict[str, Any]]
) -> None:
    def look() -> str:
        structlog.get_logger().info("looking")
        return "seen"

    inner = an_agent(sidecar, look)
    outer = sidecar.observe(Agent(TestModel(), name="outer"))

    @outer.tool_plain
    async def ask() -> str:
        return (await inner.run("go")).output

    outer.run_sync("go")
    sidecar.flush()
    outer_start, inner_start = memory.of("agent_start")
    (line,) = lines
    assert (line["run_id"], line["root_run_id"]) == (inner_start.run_id, outer_start.run_id)


def test_a_line_in_a_tapped_generator_belongs_to_its_run(sidecar: Sidecar, lines: list[dict[str, Any]]) -> None:
    async def stream() -> AsyncIterator[str]:
        structlog.get_logger().info("inside")
        yield "a"

    async def main() -> None:
        async for _ in sidecar.tap(stream(), agent_name="writer"):
            structlog.get_logger().info("in the consumer")

    asyncio.run(main())
    assert [(line["event"], line.get("agent")) for line in lines] == [("inside", "writer"), ("in the consumer", None)]


# --- logging -------------------------------------------------------------------------------------------------------


def test_a_format_may_name_the_ids_inside_a_run_and_outside(
    sidecar: Sidecar, memory: InMemoryExporter, text_log: tuple[logging.Logger, io.StringIO]
) -> None:
    logger, out = text_log

    def look() -> str:
        logging.getLogger("an.application.module").warning("inside")
        return "seen"

    logger.warning("outside")
    an_agent(sidecar, look).run_sync("go")
    sidecar.flush()
    run_id, call = memory.events[0].run_id, memory.of("tool_start")[0].data.tool_call_id
    assert out.getvalue() == f"[||] outside\n[{run_id}|clerk|{call}] inside\n"


def test_a_record_written_by_another_thread_keeps_the_stamp_of_its_own(sidecar: Sidecar) -> None:
    out = io.StringIO()
    behind = logging.StreamHandler(out)
    behind.addFilter(logs.RunFilter())
    behind.setFormatter(logging.Formatter(FORMAT))
    handler = QueueHandler(queue.SimpleQueue())
    handler.addFilter(logs.RunFilter())
    listener = QueueListener(handler.queue, behind)
    logger = logging.getLogger("an.application.queued")
    logger.addHandler(handler)
    listener.start()

    def look() -> str:
        logger.warning("inside")
        return "seen"

    an_agent(sidecar, look).run_sync("go")
    listener.stop()
    logger.removeHandler(handler)
    assert "|clerk|" in out.getvalue()


def test_a_stamp_that_fails_costs_no_line(
    text_log: tuple[logging.Logger, io.StringIO], lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError

    monkeypatch.setattr(logs, "current_run", broken)
    structlog.get_logger().info("a line")
    record = logging.makeLogRecord({"msg": "a line"})
    assert logs.RunFilter().filter(record)
    assert lines == [{"event": "a line"}]


# --- current_run() -------------------------------------------------------------------------------------------------


def test_there_is_no_current_run_outside_of_one() -> None:
    assert current_run() is None


def test_the_current_run_cannot_be_changed(sidecar: Sidecar) -> None:
    seen: list[Any] = []
    an_agent(sidecar, lambda: seen.append(current_run())).run_sync("go")
    (run,) = seen
    assert run.agent == "clerk"
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.run_id = "another"


def test_code_that_outlives_its_run_is_outside_of_it(sidecar: Sidecar) -> None:
    """For example in a task started by a tool."""

    async def main() -> tuple[Any, Any]:
        over = asyncio.Event()
        tasks = []

        async def outliving() -> tuple[Any, Any]:
            before = current_run()
            await over.wait()
            return before, current_run()

        async def look() -> str:
            tasks.append(asyncio.create_task(outliving()))
            await asyncio.sleep(0)
            return "seen"

        await an_agent(sidecar, look).run("go")
        over.set()
        return await tasks[0]

    before, after = asyncio.run(main())
    assert before.agent == "clerk"
    assert after is None


def test_a_stamp_that_fails_is_told_once_and_the_line_stands(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    diagnostics.forget()
    monkeypatch.setattr(logs, "current", None)
    record = logging.makeLogRecord({"msg": "hello"})
    with caplog.filtering(logs.RunFilter()):  # the warning passes the failing filter as well
        for _ in range(2):
            assert logs.add_run(None, "info", {"event": "hello"}) == {"event": "hello"}
            assert logs.RunFilter().filter(record)
    told = [each.getMessage() for each in caplog.records]
    assert told == ["a log line could not be stamped with its run exception='AttributeError'"]
