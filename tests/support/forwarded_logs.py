"""Synthetic logs in the format of the JSONL exporter."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from sidestream.events import Payload, StreamEvent, ToolEnd, ToolStart, Usage, encode_line
from tests.support import run_events
from tests.support.run_events import BEGAN, answer, ask, chunk, event_log

NOBODY = 2**22 + 1
"""Process id beyond the kernel's maximum, so that no such process exists."""


def run_of(
    run_id: str,
    *,
    agent: str = "clerk",
    tools: int = 1,
    ended: bool = True,
    pid: int = NOBODY,
    host: str | None = None,
    after: float = 0.0,
) -> list[StreamEvent]:
    """Run of two requests with `tools` tool calls between them."""
    from sidestream.recording.process import hostname

    payloads: list[Payload] = [
        run_events.start(run_id, model="gpt-4o", prompt="Hello?", pid=pid, host=host or hostname()),
        ask(1, model="gpt-4o"),
        answer(1, model="gpt-4o", duration_seconds=0.1, usage=Usage(input_tokens=5)),
    ]
    for number in range(tools):
        call = f"call-{number}"
        payloads += [
            ToolStart(tool_name="look_up", tool_call_id=call, args={"x": number}),
            ToolEnd(tool_name="look_up", tool_call_id=call, outcome="ok", duration_seconds=0.1, result="found"),
        ]
    payloads += [
        ask(2, model="gpt-4o"),
        chunk("We", "ll.", request=2, gap_us=1000),
        answer(2, model="gpt-4o", duration_seconds=0.2, usage=Usage(input_tokens=7)),
    ]
    if ended:
        payloads.append(run_events.end(duration_seconds=len(payloads) * 0.1))
    return event_log(run_id, *payloads, agent=agent, began=BEGAN + timedelta(seconds=after), gap=0.1)


def spans_of(tools: int = 1) -> int:
    """Number of spans of a run made by `run_of`."""
    return 3 + tools


def write(path: Path, events: Iterable[StreamEvent]) -> Path:
    """Append `events` to the log file at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(map(encode_line, events)))
    return path


def ids(events: Sequence[StreamEvent]) -> list[tuple[str, int]]:
    return [(event.run_id, event.seq) for event in events]


class Writer:
    """Live writer of `path`: holds the lock of the file."""

    def __init__(self, path: Path) -> None:
        fcntl = pytest.importorskip("fcntl", reason="the lock is one of POSIX")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def write(self, data: bytes) -> None:
        os.write(self._fd, data)

    def die(self) -> None:
        os.close(self._fd)
