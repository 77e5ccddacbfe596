"""`sidecar.score`: event of the log, joined with its run by ids, without effect on the run."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from sidestream import InMemoryExporter, Sidecar, log
from sidestream.errors import ConfigurationError
from sidestream.events.scores import FIRST_SEQ


def agent(sidecar: Sidecar) -> Agent[None, str]:
    return sidecar.observe(Agent(TestModel(), name="support"))


def test_a_run_that_is_over_is_scored(tmp_path: Path) -> None:
    """The score has the run's agent and OpenTelemetry ids; the comment follows each exporter's policy."""
    shown, hidden = InMemoryExporter(), InMemoryExporter(content="none")
    with Sidecar(f"jsonl:{tmp_path}", shown, hidden, redact=lambda text: text.replace("Jane", "J.")) as sidecar:
        run_id = agent(sidecar).run_sync("Where is it?").run_id
        sidecar.score(run_id, "helpful", 0.25, label="poor", comment="Jane did not like it")
        sidecar.score(run_id, "helpful", 1)
    start = shown.of("agent_start")[0]
    first, second = shown.of("score")
    assert (first.run_id, first.agent_name) == (run_id, "support")
    assert (first.data.trace_id, first.data.span_id) == (start.data.trace_id, start.data.span_id)
    assert (first.data.value, first.data.label, first.data.comment) == (0.25, "poor", "J. did not like it")
    assert (second.data.value, second.data.label, second.data.comment) == (1.0, None, None)
    assert first.seq != second.seq
    assert min(first.seq, second.seq) >= FIRST_SEQ
    assert hidden.of("score")[0].data.comment is None
    assert hidden.of("score")[0].data.label == "poor"
    (run,) = log.runs(tmp_path)
    assert (run.score_values, run.missing, run.outcome) == ({"helpful": 1.0}, 0, "completed")


def test_a_run_in_progress_is_scored_and_goes_on() -> None:
    told = InMemoryExporter()

    async def ask(sidecar: Sidecar) -> None:
        async with agent(sidecar).run_stream("Where is it?") as result:
            sidecar.score(result.run_id, "started", True)
            await result.get_output()

    with Sidecar(told) as sidecar:
        asyncio.run(ask(sidecar))
    ends = told.of("agent_end")
    assert [event.data.outcome for event in ends] == ["completed"]
    (score,) = told.of("score")
    numbers = [event.seq for event in told.events if event is not score]
    assert numbers == list(range(len(numbers)))


def test_the_time_of_a_score_is_that_of_the_call() -> None:
    exporter = InMemoryExporter()
    with Sidecar(exporter) as sidecar:
        before = datetime.now(UTC)
        sidecar.score("elsewhere", "reviewed", True)
        after = datetime.now(UTC)
    (event,) = exporter.events
    assert before - timedelta(microseconds=1) <= event.timestamp <= after


def test_a_run_that_nobody_here_has_seen() -> None:
    told = InMemoryExporter()
    with Sidecar(told) as sidecar:
        sidecar.score("elsewhere", "reviewed", label="pass")
        assert sidecar.flush() == {}
    (event,) = told.events
    assert (event.run_id, event.agent_name, event.data.trace_id) == ("elsewhere", None, None)
    assert sidecar.stats().runs == 0


def test_what_cannot_be_meant_is_a_mistake_and_a_closed_sidecar_takes_none() -> None:
    told = InMemoryExporter()
    sidecar = Sidecar(told)
    for wrong in (("", "helpful", 1.0), ("run", "help<ful", 1.0), ("run", "helpful", None)):
        with pytest.raises(ConfigurationError, match="score"):
            sidecar.score(*wrong)
    sidecar.close()
    sidecar.score("run", "helpful", 1.0)
    assert told.events == []
