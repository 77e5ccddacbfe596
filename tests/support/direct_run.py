"""Run with immediate events, without a sidecar or an agent."""

from __future__ import annotations

from typing import Any

from sidestream.events import StreamEvent
from sidestream.recording.assembler import RunAssembler
from sidestream.recording.direct import DirectAssembly
from sidestream.recording.run_recorder import RunRecorder


def run_into(events: list[StreamEvent], run_id: str = "r", **settings: Any) -> RunRecorder:
    """Recorder of a run that appends its events to `events`; `settings` are those of the assembler."""
    return RunRecorder(DirectAssembly(RunAssembler(**settings), events.append).append, run_id=run_id)
