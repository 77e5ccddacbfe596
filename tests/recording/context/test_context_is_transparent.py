"""Programs behave the same with span ids in the context as without a sidecar."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from sidestream import InMemoryExporter
from tests.sources.pydantic_ai.transparency.test_differential import MODES, programs
from tests.support.consumption_modes import Play, play_both


@pytest.fixture(scope="module", autouse=True)
def _an_exporter_of_spans() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InMemoryExporter, "spans", True)
        yield


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs())
def test_any_program_is_the_same(mode: str, program: Play) -> None:
    gc.freeze()
    _, events = play_both(program, mode)
    assert all(event.data.sampled for event in events if event.event_type == "agent_start")
