"""Exporter `collect`: keeps one collector process per log running, however many processes write the log.

program                                         collector (separate process)
jsonl ──▶ log ────────────────────────────────▶ follows the log ──▶ otlp, prometheus, …
collect: starts a collector if none runs         ends once its writers are gone and everything is delivered
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence

from sidestream.diagnostics import warn_once
from sidestream.errors import ConfigurationError, ExporterUnavailable
from sidestream.events import StreamEvent, StreamEventType
from sidestream.logfiles.collector_status import CollectorStatus, read_status
from sidestream.logfiles.companion import Companion
from sidestream.pipeline.backoff import Backoff
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.registry import available_exporters, shown, split_specs, unknown_exporter
from sidestream.recording.content import NONE
from sidestream.stats import CollectorStats

from .launching import launch, python_program

CHECK_SECONDS = 1.0
"""Seconds between two checks that the collector runs."""
BACKOFF = (1.0, 60.0)
"""First and longest pause, in seconds, before a collector that ended early is restarted."""


class CollectExporter(Exporter):
    """Exports the log from a collector process: `collect:?otlp=http://collector:4318&prometheus=:9464`.

    This process only writes its log. One collector serves the log, however many processes write it; a killed collector
    is restarted, and an idle one ends by itself. Neither the program nor its exit waits for the collector.

    Args:
        path: Path of the log. None is the log of the sidecar's own jsonl exporter.
        otlp: Endpoint for spans: `http://collector:4318`, with options of the OTLP exporter after a `?`.
        prometheus: Address to serve metrics on: `:9464`, or `HOST:PORT`.
        exporters: Further exporters, as in `SIDESTREAM_EXPORTERS`; in an address, write `&` and `?` as `%26` and `%3F`.
        linger: Seconds that the collector stays after its writers are gone: at least one Prometheus scrape interval.
        patience: Seconds after which the collector ends although events are undelivered; the next one resumes there.

    Raises:
        ConfigurationError: No exporter is given, an exporter is not installed, or a number is out of range.
    """

    name = "collect"
    eager = True
    content = NONE
    skip = frozenset(map(str, StreamEventType))

    def __init__(
        self,
        path: str | None = None,
        *,
        otlp: str | None = None,
        prometheus: str | None = None,
        exporters: str | Sequence[str] = (),
        linger: float = 1.0,
        patience: float = 60.0,
    ) -> None:
        specs = [f"otlp:{otlp}"] if otlp else []
        specs += [f"prometheus:{prometheus.removeprefix(':')}"] if prometheus else []
        specs += split_specs(exporters) if isinstance(exporters, str) else exporters
        _check(specs)
        for option, seconds in (("linger", linger), ("patience", patience)):
            if not seconds >= 0:
                raise ConfigurationError(f"collect: {option}={seconds!r}: must be a number of seconds, 0 or more")
        self._python = python_program()
        self._given_path = None if path is None else os.path.abspath(os.path.expanduser(path))
        self._specs = list(specs)
        self._settings = {"exporters": self._specs, "linger": linger, "patience": patience}
        self._companion: Companion | None = None if self._given_path is None else Companion(self._given_path)
        self._writer = -1
        self._starts = 0
        self._reset()

    def _reset(self) -> None:
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._launched: subprocess.Popen[bytes] | None = None
        self._backoff = Backoff(*BACKOFF)
        self._pause = 0.0

    # --- called by the sidecar ---

    def read_log(self, path: str | None) -> None:
        """Use the log at `path`, which the sidecar's jsonl exporter writes, unless the exporter was given a path.

        Raises:
            ConfigurationError: `path` is None and the exporter was given no path.
        """
        if self._given_path is None:
            if path is None:
                raise ConfigurationError(
                    "collect: there is no log to collect from: give the exporter jsonl beside it, as in "
                    "'jsonl:runs/', or name the log, as in 'collect:runs/?otlp=…'"
                )
            self._companion = Companion(path)

    def collector_stats(self) -> CollectorStats:
        """Statistics from the collector's last status file; None for fields that no collector has reported."""
        status = read_status(self._companion.status_path) if self._companion else None
        return CollectorStats(
            running=self._companion is not None and self._companion.has_collector(),
            starts=self._starts,
            pid=status.pid if status else None,
            behind_bytes=status.behind_bytes if status else None,
            exporters=status.exporters if status else {},
            error=status.error if status else None,
        )

    # --- the exporter's contract ---

    def start(self) -> None:
        """Register as a writer of the log, and start the thread that keeps a collector running.

        Raises:
            ExporterUnavailable: The folder beside the log cannot be written.
        """
        companion = self._require_companion()
        try:
            self._register(companion)
        except OSError as error:
            warn_once("collector cannot be kept beside the log", companion.path, path=companion.path)
            raise ExporterUnavailable(f"{companion.path}: {error.strerror or error}") from error
        self._thread = threading.Thread(target=self._watch, name="sidestream-collector", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no threads at interpreter shutdown: close() starts the collector
            self._thread = None

    def export(self, events: Sequence[StreamEvent]) -> Mapping[str, int] | None:
        """No-op: `skip` lists every event type, because the collector reads the log."""
        return None

    def close(self) -> None:
        """Unregister as a writer. The collector ends by itself once everything is delivered."""
        self._ended.set()
        self._keep_running()
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def after_fork(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)  # the parent holds the lock with a descriptor of its own
            self._writer = -1
        self._starts = 0
        self._reset()

    # --- the collector ---

    def _require_companion(self) -> Companion:
        if self._companion is None:
            self.read_log(None)
        assert self._companion is not None
        return self._companion

    def _register(self, companion: Companion) -> None:
        """Register as a writer, again if the companion folder was removed. Raises `OSError`."""
        if self._writer >= 0 and not os.path.isdir(companion.path):
            os.close(self._writer)
            self._writer = -1
        if self._writer < 0:
            companion.make()
            self._writer = companion.register_writer()

    def _watch(self) -> None:
        ended = self._ended
        self._keep_running()
        while not ended.wait(max(CHECK_SECONDS, self._pause)):
            self._keep_running()

    def _keep_running(self) -> None:
        """Start a collector if none runs. A failure is logged and retried: the log is complete without a collector."""
        companion = self._require_companion()
        with self._lock:
            if self._launched is not None:
                self._launched.poll()  # reap the launcher process, which would stay a zombie
            try:
                self._register(companion)
                lock = companion.lock_collector()
                if lock is None:
                    self._on_running(companion)
                    return
                try:
                    if self._starts:
                        self._on_gone(companion)
                    self._launched = launch(self._python, companion, self._settings, lock)
                finally:
                    os.close(lock)  # the collector inherited the lock
                self._starts += 1
            except (OSError, subprocess.SubprocessError) as error:
                self._backoff.fail()
                self._pause = self._backoff.delay()
                reason = getattr(error, "strerror", None) or type(error).__qualname__
                warn_once("collector cannot be started, trying again", reason, reason=reason)

    def _on_running(self, companion: Companion) -> None:
        self._pause = 0.0
        status = read_status(companion.status_path)
        if status is None or status.error is not None:
            return
        self._backoff.succeed()
        if status.target and status.target != CollectorStatus.target_of(self._specs):
            warn_once(
                "the log already has a collector with other exporters, which stays until its writers are gone",
                companion.path,
                path=companion.path,
            )

    def _on_gone(self, companion: Companion) -> None:
        self._backoff.fail()
        self._pause = self._backoff.delay()
        status = read_status(companion.status_path)
        reason = status.error if status is not None and status.error else None
        if reason is None:
            warn_once("collector ended early, restarting it", companion.path, output=companion.output_path)
        else:
            warn_once("collector failed, restarting it", reason, reason=reason, output=companion.output_path)


def _check(specs: Sequence[str]) -> None:
    """Raises `ConfigurationError` for no exporter, a nested `collect`, or a name without an entry point."""
    if not specs:
        raise ConfigurationError("collect: no exporter given: write collect:?otlp=http://127.0.0.1:4318")
    there = available_exporters()
    for spec in specs:
        name = spec.partition(":")[0]
        if name == CollectExporter.name:
            raise ConfigurationError("collect: a collector cannot start another one: name the exporters it is to use")
        if name not in there and "." not in name:
            raise unknown_exporter(shown(spec), name)
