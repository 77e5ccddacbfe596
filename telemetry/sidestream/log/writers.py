"""Liveness of the writer of a run without an end: alive, or gone, which makes the outcome `lost`.

Locks decide; without locks, the identity of the process; never a clock that can be set. The first rule that applies:

    a file of the run is locked                             alive
    its writer had files of its own, and locks none         gone
    its process is visible from here                        alive if that very process still runs, else gone
    not visible: another machine, another PID namespace     alive while a file of the run is written to (an hour)
"""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path

from sidestream.events import AgentStart
from sidestream.logfiles.locks import is_locked
from sidestream.logfiles.naming import pid_in_name
from sidestream.recording.process import ProcessIdentity, hostname, process_identity, start_ticks

from .reader import Skipped, blocks_of, decode_block, decoder_of

ELSEWHERE_SECONDS = 3600.0
"""Seconds without a write after which a writer on another machine or in another PID namespace counts as gone."""


class Writers:
    """Liveness of the writers of one log. Locks are cached, so that each file is checked once."""

    def __init__(self) -> None:
        self._locked = cache(is_locked)

    def alive(self, start: AgentStart | None, files: list[str]) -> bool:
        """Whether the process that wrote `start` into `files` can still write more of the run."""
        if any(self._locked(file) for file in files):
            return True
        if start is None or start.pid is None or start.pid <= 0:
            return False
        own = [file for file in files if pid_in_name(file) == start.pid]
        if own:
            # The writer has files of its own and locks the current one, perhaps a file that it opened after these.
            if any(
                self._locked(file) and _may_be_of(file, start) for file in _files_of(start.pid, Path(own[-1]).parent)
            ):
                return True
            if self._locked(own[-1]) is False:
                return False
        lives = _lives(start, start.pid)
        return any(_written_within(file, ELSEWHERE_SECONDS) for file in files) if lives is None else lives


def _files_of(pid: int, folder: Path) -> list[str]:
    try:
        return [str(file) for file in folder.glob(f"*-{pid}*.jsonl") if pid_in_name(file.name) == pid]
    except OSError:
        return []


def _may_be_of(file: str, start: AgentStart) -> bool:
    """Whether the writers of `file` and of `start` may be the same: two containers can each use that PID."""
    if start.process is None:
        return True
    block = next(blocks_of(file, lambda problem: None), None)
    for event in decode_block(block, decoder_of(frozenset({"agent_start"})), file, None) if block else ():
        if not isinstance(event, Skipped):
            return event.data.process in (None, start.process)
    return True


def _lives(start: AgentStart, pid: int) -> bool | None:
    """Whether the very process that wrote `start` still runs; None if processes there are not visible from here."""
    here, there = process_identity(), ProcessIdentity.parse(start.process)
    if here is None or there is None:
        return _is_there(pid) if start.host == hostname() else None
    if there.boot != here.boot:
        return False if start.host == hostname() else None  # rebooted since, or another machine
    if there.namespace != here.namespace:
        return None
    began = start_ticks(pid)
    return _is_there(pid) if began is None else began == there.started  # /proc may hide processes of other users


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0) if os.name == "posix" else None
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _written_within(file: str, seconds: float) -> bool:
    try:
        return time.time() - os.stat(file).st_mtime < seconds
    except OSError:
        return False
