"""Whether whoever was writing a run can still tell more of it, or is gone and has left it lost."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from sidestream.events import AgentStart
from sidestream.logfiles.locks import is_locked
from sidestream.logfiles.naming import pid_in_name
from sidestream.recording.process import hostname

ELSEWHERE_SECONDS = 3600.0
"""A writer on another machine, whose process cannot be seen, counts as gone when its file was still for so long."""


class Writers:
    """Who still writes. Each file and process is looked at once."""

    def __init__(self) -> None:
        self._locked = cache(is_locked)

    def alive(self, start: AgentStart | None, last: datetime | None, files: list[str]) -> bool:
        """Whether the process that told `start`, and `last` something into `files`, can still tell more."""
        if any(self._locked(file) for file in files):
            return True
        pid, host = (start.pid, start.host) if start else (None, None)
        if pid is None or pid <= 0:
            return False
        own = [file for file in files if pid_in_name(file) == pid]
        if own:
            # Each process has files of its own there, and locks the one it writes to: perhaps a younger one by now.
            folder = Path(own[-1]).parent
            if any(self._locked(str(file)) for file in folder.glob(f"*-{pid}*.jsonl")):
                return True
            if self._locked(own[-1]) is False:
                return False
        if host == hostname():
            return _process_lives(pid, last)
        return any(_written_within(file, ELSEWHERE_SECONDS) for file in files)


def _written_within(file: str, seconds: float) -> bool:
    try:
        return time.time() - os.stat(file).st_mtime < seconds
    except OSError:
        return False


def _process_lives(pid: int, last: datetime | None) -> bool:
    """Whether the process `pid` is there, and is not a younger one that was given the same number."""
    try:
        os.kill(pid, 0) if os.name == "posix" else None
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    begun = _process_began(pid)
    return begun is None or last is None or begun <= last + timedelta(seconds=2)


def _process_began(pid: int) -> datetime | None:
    """When the process `pid` began, by Linux' own account; None elsewhere."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        seconds = time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")
        return datetime.fromtimestamp(seconds).astimezone()
    except (OSError, ValueError, IndexError):
        return None
