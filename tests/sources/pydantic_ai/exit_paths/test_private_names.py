"""Private names of libraries: present in the installed versions; without one, an agent still runs observed."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing.spawn  # noqa: F401  # its names are probed only where it is loaded
import sys
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.agent import abstract
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models.test import TestModel
from typer.testing import CliRunner

from sidestream import InMemoryExporter, Sidecar, diagnostics, stdlib_compat
from sidestream.cli.app import app
from sidestream.sources.pydantic_ai import compat
from sidestream_exporters.prometheus import compat as prometheus_compat

PROBES = [*compat.probes(), *stdlib_compat.probes(), *prometheus_compat.probes()]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_the_installed_version_has_the_name(probe: diagnostics.Probe) -> None:
    assert probe.holds, probe.lost


GONE = [
    (abstract, "_RunStreamEventsContext", "_RunStreamEventsContext"),
    (AbstractCapability, "_safe_at_runtime", "AbstractCapability._safe_at_runtime"),
    (abstract.AbstractAgent, "_infer_name", "Agent._infer_name"),
    (sys, "_current_frames", "sys._current_frames"),
]
"""Names that are not essential for a run, so that the test can remove them; and their probes."""


@pytest.fixture(params=GONE, ids=lambda case: case[1])
def gone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Probe of a missing name."""
    owner, name, probe = request.param
    monkeypatch.delattr(owner, name)
    diagnostics.forget()
    return str(probe)


def observed_run() -> list[str]:
    """Event types of an agent's run."""
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = Agent(TestModel(), name="helper", capabilities=[sidecar.capability])
        asyncio.run(agent.run("hello", infer_name=False))
    return [event.event_type for event in memory.events]


def test_without_a_name_an_agent_still_runs_observed(gone: str) -> None:
    told = observed_run()
    assert told[0] == "agent_start"
    assert told[-1] == "agent_end"


def test_what_is_lost_is_logged_once(gone: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sidestream"):
        observed_run()
        observed_run()
    logged = [record.getMessage() for record in caplog.records if f"name={gone!r}" in record.getMessage()]
    assert len(logged) == 1
    assert "lost=" in logged[0]


def doctor(*options: str) -> Any:
    return CliRunner().invoke(app, ["doctor", "none", *options])


def test_doctor_lists_every_probe() -> None:
    listed = json.loads(doctor("--json").stdout)["private_names"]
    assert {probe.name for probe in PROBES} <= {each["name"] for each in listed if each["holds"]}


def test_doctor_shows_what_is_lost(gone: str) -> None:
    assert f"GONE   {'the standard library' if gone.startswith('sys') else 'pydantic-ai'}: {gone}" in doctor().stdout
    assert not all(each["holds"] for each in json.loads(doctor("--json").stdout)["private_names"])
