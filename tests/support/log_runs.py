"""Loaded runs of a log, made from events in memory."""

from __future__ import annotations

from collections.abc import Iterable

from sidestream.events import StreamEvent, decode_line, encode_line
from sidestream.log import Located, RunLog, RunSummary
from sidestream.log.runs.loading import build


def loaded(events: Iterable[StreamEvent]) -> dict[str, RunLog]:
    """Runs of `events` by id, without their sub-agents, after a round trip through JSON."""
    by_run: dict[str, list[Located]] = {}
    for event in events:
        by_run.setdefault(event.run_id, []).append(Located(decode_line(encode_line(event)), "log", 1))
    return {
        run_id: build(RunSummary(run_id=run_id, root_run_id=run_id, outcome="completed"), located)
        for run_id, located in by_run.items()
    }
