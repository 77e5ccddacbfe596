"""A collector beside the programs of a test: what it has told, and that it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sidestream.log import read
from sidestream.logfiles.collector_status import CollectorStatus, read_status
from sidestream.logfiles.companion import Companion

from .loopback import until


class Beside:
    """The collector of the log at `log`, and the copy of the log at `copy` that it is to make."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "runs"
        self.copy = folder / "copy"
        self.companion = Companion(str(self.log))

    @property
    def spec(self) -> str:
        """The exporter that has the log copied."""
        return f"collect:?linger=0&exporters=jsonl:{self.copy}/"

    def status(self) -> CollectorStatus | None:
        return read_status(self.companion.status_path)

    def pid(self) -> int:
        """Its process. Waits for its first report."""
        until(self.status)
        status = self.status()
        assert status is not None
        return status.pid

    def runs(self) -> list[str]:
        """The runs that were copied and ended, each as often as it is there."""
        if not self.copy.is_dir():
            return []
        return [event.run_id for event in read(self.copy) if event.event_type == "agent_end"]

    def ends(self) -> None:
        """Wait for the collector to end by itself."""
        until(lambda: not self.companion.has_collector())


@contextmanager
def beside(folder: Path) -> Iterator[Beside]:
    """What is in `folder`. A collector that is left behind is killed."""
    there = Beside(folder)
    try:
        yield there
    finally:
        status = there.status()
        if status is not None and there.companion.has_collector():
            with suppress(ProcessLookupError):
                os.kill(status.pid, signal.SIGKILL)
