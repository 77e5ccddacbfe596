"""Collector process for the programs that write a log: the first program starts it; it ends when all writers are gone.

The process holds the collector's lock of the log's companion folder for its whole life. After SIGTERM it finishes: it
still exports what its writers write, for at most `TERM_SECONDS`, since a service manager signals all of them at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

import msgspec

from sidestream.diagnostics import warn_once
from sidestream.errors import SidestreamError
from sidestream.logfiles.collector_status import (
    SETTINGS_VARIABLE,
    CollectorSettings,
    CollectorStatus,
    write_status,
)
from sidestream.logfiles.companion import Companion

from .collect import Collector

LOOK_SECONDS = 0.2
"""Seconds between two checks of the writers."""
STATUS_SECONDS = 1.0
"""Seconds between two status reports."""
TERM_SECONDS = 10.0
"""Maximum seconds after SIGTERM or SIGINT, while writers are alive or events are undelivered."""
CLOSE_SECONDS = 5.0
NICENESS = 5
"""Niceness of the process: the observed programs have priority."""


class CollectorProcess:
    """Collector of one log, with the lifetime of its writers."""

    def __init__(self, settings: CollectorSettings, companion: Companion, lock: int) -> None:
        self._settings = settings
        self._lock = lock
        self._companion = companion
        self._target = CollectorStatus.target_of(settings.exporters)
        self._reported_at = 0.0
        self.stop_requested = threading.Event()

    def run(self) -> int:
        """Collect until nothing is left to do; returns the exit code."""
        try:
            collector = Collector(self._settings.log, self._settings.exporters, self._companion.path)
            collector.start()
        except SidestreamError as error:
            self._write_status(CollectorStatus(pid=os.getpid(), target=self._target, error=str(error)))
            print(f"sidestream: {error}", file=sys.stderr)
            return 2
        try:
            self._wait(collector)
        finally:
            collector.close(CLOSE_SECONDS)
            self._report(collector)
        return 1 if collector.failed else 0

    def _wait(self, collector: Collector) -> None:
        """Return once the writers are gone and all events are delivered, or a time limit is reached."""
        alone_since: float | None = None
        term_at: float | None = None
        while not collector.stopped:
            if not self._companion.still_holds(self._lock):
                return  # the folder was deleted: another collector may be at work in a new one
            if time.monotonic() - self._reported_at > STATUS_SECONDS:
                self._report(collector)
            writers = self._companion.writers()
            now = time.monotonic()
            if writers.alive:
                alone_since = None
            elif alone_since is None or writers.seen:  # a writer may have come and gone between two checks
                alone_since = now
            if self.stop_requested.is_set() and term_at is None:
                term_at = now
            linger = 0.0 if term_at is not None else self._settings.linger
            if alone_since is not None and now - alone_since >= linger and collector.has_delivered(alone_since):
                return
            if alone_since is not None and now - alone_since > self._settings.patience:
                warn_once("not all of the log could be delivered, the next collector resumes", log=self._settings.log)
                return
            if term_at is not None and now - term_at > TERM_SECONDS:
                return
            time.sleep(LOOK_SECONDS)

    def _report(self, collector: Collector) -> None:
        self._reported_at = time.monotonic()
        stats = collector.stats()
        self._write_status(
            CollectorStatus(
                pid=os.getpid(), target=self._target, behind_bytes=collector.behind_bytes(), exporters=stats.exporters
            )
        )

    def _write_status(self, status: CollectorStatus) -> None:
        try:
            write_status(self._companion.status_path, status)
        except OSError as error:
            warn_once("status cannot be written", error.strerror or "", reason=error.strerror)


def main() -> int:
    """Run the collector that the environment describes, unless the log already has one; returns the exit code."""
    settings = msgspec.json.decode(os.environ.pop(SETTINGS_VARIABLE), type=CollectorSettings)
    if sys.platform != "win32":
        if os.fork():
            os._exit(0)  # so that the program that started this process has no child to wait for
        os.nice(NICENESS)
    companion = Companion(settings.log)
    lock = settings.lock if settings.lock is not None else companion.lock_collector()
    if lock is None:
        return 0
    code = 0
    while True:
        process = CollectorProcess(settings, companion, lock)
        _listen(process.stop_requested)
        code = process.run()
        # A writer that registered during the shutdown saw the lock held, and started no collector.
        if code or process.stop_requested.is_set() or not companion.writers().seen:
            os.close(lock)
            return code


def _listen(stop_requested: threading.Event) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        stop_requested.set()

    for name in ("SIGTERM", "SIGINT"):
        signal.signal(getattr(signal, name), end)
    for name in ("SIGHUP", "SIGPIPE"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
