"""Collector: one process that exports the logs of many, each exporter at its own pace, each event once.

The observed processes write files and nothing else. Collector and writers may be killed and restarted at any time:
everything written is exported, and a run whose writer was killed ends as `lost`.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Sequence

from sidestream.diagnostics import error_once, warn, warn_once
from sidestream.errors import ConfigurationError
from sidestream.log.files import Paths
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.registry import make_exporter
from sidestream.stats import SidecarStats

from .checkpoint import Checkpoint
from .delivery import Delivery
from .follow import Follower
from .forwarder import Forwarder, State, log_problem
from .own_log import refuse_own_log

POLL_SECONDS = 0.5
"""Seconds between two polls of the log."""


class Collector:
    """Collector of a log for several exporters.

    Args:
        paths: folders, files or globs. Paths that do not exist yet are waited for.
        specs: the exporters, as in `SIDESTREAM_EXPORTERS`.
        checkpoint: folder of the checkpoints, one file for each exporter.

    Raises `ConfigurationError` for an invalid exporter or checkpoint.
    """

    def __init__(self, paths: Paths, specs: Sequence[str], checkpoint: str | os.PathLike[str]) -> None:
        if not specs:
            raise ConfigurationError("collect: no exporter given")
        if len(set(specs)) < len(specs):
            raise ConfigurationError("collect: the same exporter is given twice")
        self._paths = [os.fspath(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
        self._stop = threading.Event()
        self._pipes: list[_Pipe] = []
        made = [make_exporter(spec) for spec in specs]
        for exporter in made:
            refuse_own_log(exporter, self._paths)
        for spec, exporter in zip(specs, made, strict=True):
            same = sum(pipe.exporter.name == exporter.name for pipe in self._pipes)
            name = f"{exporter.name}-{same + 1}" if same else exporter.name
            file = os.path.join(os.fspath(checkpoint), re.sub(r"[^\w.-]", "_", name) + ".json")
            self._pipes.append(_Pipe(name, spec, exporter, self._paths, Checkpoint(file, State), self._stop))
        for pipe in self._pipes:
            pipe.exporter.bind(self.stats)

    def start(self) -> None:
        """Start one thread for each exporter.

        Raises `ConfigurationError` for a checkpoint that cannot be read.
        """
        for path in self._paths:
            if not os.path.exists(path):
                warn("log does not exist yet, waiting for it", path=path)
        for pipe in self._pipes:
            pipe.prepare()
        for pipe in self._pipes:
            pipe.start()

    def stats(self) -> SidecarStats:
        """Statistics of every exporter. Counts of runs are those of the exporter that is furthest ahead."""
        return SidecarStats(
            exporters={pipe.name: pipe.delivery.stats() for pipe in self._pipes},
            runs=max(pipe.forwarder.runs for pipe in self._pipes),
            runs_in_progress=max(pipe.forwarder.runs_in_progress for pipe in self._pipes),
            unpriced_requests=0,
            recording_errors=0,
        )

    @property
    def stopped(self) -> bool:
        """Whether the collector has stopped or is stopping."""
        return self._stop.is_set()

    @property
    def failed(self) -> bool:
        """Whether the collector stopped because of an unexpected exception."""
        return any(pipe.failed for pipe in self._pipes)

    def has_delivered(self, since: float) -> bool:
        """Whether every exporter has exported the log as it was at `since` (monotonic), and no run is in progress."""
        return all(pipe.delivered_at >= since and not pipe.forwarder.runs_in_progress for pipe in self._pipes)

    def behind_bytes(self) -> int:
        """Bytes of the log that the slowest exporter has not read yet, as of its last poll."""
        return max(pipe.follower.behind_bytes() for pipe in self._pipes)

    def close(self, timeout: float = 10.0) -> None:
        """Stop the threads and close the exporters within `timeout` seconds. A thread that hangs is abandoned."""
        self._stop.set()
        deadline = time.monotonic() + timeout
        for pipe in self._pipes:
            if pipe.ident is not None:
                pipe.join(max(0.0, deadline - time.monotonic()))
        for pipe in self._pipes:
            pipe.checkpoint.close()


class _Pipe(threading.Thread):
    """Thread that forwards the log to one exporter, with its own position."""

    def __init__(
        self,
        name: str,
        spec: str,
        exporter: Exporter,
        paths: Sequence[str],
        checkpoint: Checkpoint[State],
        stop: threading.Event,
    ) -> None:
        super().__init__(name=f"sidestream-collect-{name}", daemon=True)
        self.name = name
        self.failed = False
        self.delivered_at = 0.0
        """Start (monotonic) of the last poll whose events were all delivered."""
        self.exporter = exporter
        self.checkpoint = checkpoint
        self._stop_event = stop
        self.follower = follower = Follower(paths, batch=exporter.batch, on_problem=log_problem)
        self.delivery = Delivery(exporter, stop=stop, on_wait=self._warn_unavailable)
        self.forwarder = Forwarder(follower, self.delivery, spec=spec, checkpoint=checkpoint)

    def prepare(self) -> None:
        self.forwarder.load()

    def run(self) -> None:
        try:
            going = self.forwarder.resume()
            while going:
                begun = time.monotonic()
                going = self.forwarder.forward()
                if going:
                    self.delivered_at = begun
                if self._stop_event.wait(POLL_SECONDS):
                    break
        except Exception as error:  # a restart resumes at the checkpoint, and may succeed
            self.failed = True
            kind = type(error).__qualname__
            error_once("exporting failed, the collector stops", exporter=self.name, exception=kind)
            self._stop_event.set()
        finally:
            self.delivery.close()

    def _warn_unavailable(self) -> None:
        warn_once("exporter unavailable, waiting for it", self.name, exporter=self.name)
