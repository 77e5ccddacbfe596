"""Identity of the process that writes events."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Process:
    """Process that observes runs."""

    pid: int
    host: str
    identity: str | None = None
    """String form of the `ProcessIdentity`; None if the system provides none."""


def this_process() -> Process:
    """Return the current process; correct after a fork."""
    return _process(os.getpid())


@cache
def _process(pid: int) -> Process:
    identity = _identity(pid)
    return Process(pid, hostname(), None if identity is None else str(identity))


@cache
def hostname() -> str:
    """Host name of this machine."""
    return socket.gethostname()


class ProcessIdentity(NamedTuple):
    """Identity that distinguishes a process from all others on its machine, despite reused pids and PID namespaces.

    Independent of adjustable clocks. String form: `boot/namespace/started`.
    """

    boot: str
    """Id of the machine's boot; shared by the containers of a machine."""
    namespace: str
    """Id of the PID namespace of the process."""
    started: int
    """Clock ticks from the boot to the start of the process."""

    def __str__(self) -> str:
        return f"{self.boot}/{self.namespace}/{self.started}"

    @classmethod
    def parse(cls, text: str | None) -> ProcessIdentity | None:
        """Parse the string form; None if invalid."""
        boot, _, rest = (text or "").partition("/")
        namespace, _, started = rest.partition("/")
        return cls(boot, namespace, int(started)) if started.isdecimal() and started.isascii() else None


def process_identity() -> ProcessIdentity | None:
    """Identity of the current process, correct after a fork; None on systems other than Linux."""
    return _identity(os.getpid())


@cache
def _identity(pid: int) -> ProcessIdentity | None:
    started = start_ticks(pid)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except (OSError, ValueError):
        return None
    return None if started is None else ProcessIdentity(boot, "".join(filter(str.isdecimal, namespace)), started)


def start_ticks(pid: int) -> int | None:
    """Clock ticks from the boot to the start of the process `pid`; None if there is no such process, or no `/proc`."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


this_process()  # read /proc at import time, so that no event loop has to wait for the read
