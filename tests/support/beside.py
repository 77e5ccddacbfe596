"""Collector beside the programs of a test: its status, its output, and waiting for its end."""

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
    """Collector of the log at `log`, which makes a copy at `copy`."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "runs"
        self.copy = folder / "copy"
        self.companion = Companion(str(self.log))

    @property
    def spec(self) -> str:
        """Spec of the exporter that starts the collector."""
        return f"collect:?linger=0&exporters=jsonl:{self.copy}/"

    def status(self) -> CollectorStatus | None:
        return read_status(self.companion.status_path)

    def pid(self) -> int:
        """Process id of the collector. Waits for its first report."""
        until(self.status)
        status = self.status()
        assert status is not None
        return status.pid

    def runs(self) -> list[str]:
        """Run ids of the copied `agent_end` events, duplicates included."""
        if not self.copy.is_dir():
            return []
        return [event.run_id for event in read(self.copy) if event.event_type == "agent_end"]

    def ends(self) -> None:
        """Wait until the collector ends by itself."""
        until(lambda: not self.companion.has_collector())


@contextmanager
def beside(folder: Path) -> Iterator[Beside]:
    """Log and collector in `folder`. Kills a remaining collector at the end."""
    there = Beside(folder)
    try:
        yield there
    finally:
        status = there.status()
        if status is not None and there.companion.has_collector():
            with suppress(ProcessLookupError):
                os.kill(status.pid, signal.SIGKILL)
