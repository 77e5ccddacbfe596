"""Writing of scores into an existing log: to a new file in the log's folder, or to a shared file that is named.

The process that observed the run may have ended, or still write to a file of its own, which must not have a second
writer. A shared file (`app.jsonl`) is locked by every writer for each batch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from sidestream.clickhouse.connection import Address
from sidestream.errors import ConfigurationError, ExporterUnavailable, OutputError
from sidestream.events import Score
from sidestream.events.ids import span_id_of
from sidestream.events.scores import score_event
from sidestream.logfiles.naming import pid_in_name
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.registry import make_exporter

from .files import Paths
from .open_store import addresses_among
from .runs.summary import RunSummary


class ScoreWriter:
    """Writer of scores for the runs of one log. Opened files stay open until `close`.

    Args:
        paths: the log, as for reading.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._open: dict[str, Exporter] = {}

    def write(self, run: RunSummary, scores: Sequence[Score]) -> str:
        """Write `scores` of `run`; returns the place where they were written.

        Raises `ConfigurationError` for a log that accepts no additions, `OutputError` if writing fails.
        """
        known = {"trace_id": run.trace_id, "span_id": run.span_id or span_id_of(run.run_id, 0)} if run.trace_id else {}
        events = [
            score_event(run.run_id, msgspec.structs.replace(score, **known), agent_name=run.agent_name)
            for score in scores
        ]
        spec, shown = self._target(run)
        try:
            exporter = self._open.get(spec)
            if exporter is None:
                exporter = make_exporter(spec)
                exporter.start()
                self._open[spec] = exporter
            exporter.export(events)
            exporter.flush()
        except ExporterUnavailable as error:
            raise OutputError(f"the score cannot be written: {error}") from None
        return shown

    def may_write(self, run: RunSummary) -> bool:
        """Whether this user has permission to write a score of `run` to its place. Always true for ClickHouse."""
        if addresses_among(self._paths):
            return True
        return bool(run.files) and os.access(self._place(run), os.W_OK)

    def close(self) -> None:
        """Close all opened files."""
        while self._open:
            self._open.popitem()[1].close()

    def _target(self, run: RunSummary) -> tuple[str, str]:
        """Exporter specification for the place from which the run was read, and the name of the place for messages."""
        if addresses := addresses_among(self._paths):
            options = {"address": addresses[0], "content": "full"}
            return f"clickhouse:?{urlencode(options)}", str(Address.parse(addresses[0]))
        if not run.files:
            raise ConfigurationError(f"score: no file of run {run.run_id} is known")
        place = self._place(run)
        return f"jsonl:?{urlencode({'path': str(place)})}", str(place)

    def _place(self, run: RunSummary) -> Path:
        """Folder in which scores of `run` get a file of their own, or the shared file that holds the run."""
        file = Path(run.files[-1])
        given = [self._paths] if isinstance(self._paths, str | os.PathLike) else list(self._paths)
        in_folder = any(os.path.isdir(os.path.expanduser(path)) for path in given)
        own = in_folder or pid_in_name(file.name) is not None or file.suffix != ".jsonl"
        return file.parent if own else file
