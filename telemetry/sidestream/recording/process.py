"""Identity of a process among those that write a log."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Process:
    """A process that observes runs."""

    pid: int
    host: str
    identity: str | None = None
    """`ProcessIdentity`, written."""


def this_process() -> Process:
    """This one, also after a fork."""
    return _process(os.getpid())


@cache
def _process(pid: int) -> Process:
    identity = _identity(pid)
    return Process(pid, hostname(), None if identity is None else str(identity))


@cache
def hostname() -> str:
    """This machine's name."""
    return socket.gethostname()


class ProcessIdentity(NamedTuple):
    """What tells a process from every other of its machine: a number alone comes again, and is another in a container.

    No clock that can be set has a part in it. Written as `boot/namespace/started`.
    """

    boot: str
    """Id of the machine's boot; containers of one machine share it."""
    namespace: str
    """Id of the PID namespace in which the process has its number."""
    started: int
    """Clock ticks from the boot to the start of the process."""

    def __str__(self) -> str:
        return f"{self.boot}/{self.namespace}/{self.started}"

    @classmethod
    def parse(cls, text: str | None) -> ProcessIdentity | None:
        """The identity that is written `text`; None where that is none."""
        boot, _, rest = (text or "").partition("/")
        namespace, _, started = rest.partition("/")
        return cls(boot, namespace, int(started)) if started.isdecimal() and started.isascii() else None


def process_identity() -> ProcessIdentity | None:
    """Identity of this process, also after a fork; None where the system does not tell it (only Linux does)."""
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
    """Clock ticks from the boot to the start of the process `pid`; None where there is none, or nobody tells."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


this_process()  # read from /proc now: later it would be an event loop that waits for it
