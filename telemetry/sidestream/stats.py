"""Statistics of sidecars, exporters and collectors, as returned by `Sidecar.stats()`."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

State: TypeAlias = Literal["ok", "failing", "closed"]


class ExporterStats(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of one exporter. `seen == exported + sum(dropped.values()) + pending` always holds."""

    seen: int
    exported: int
    dropped: dict[str, int]
    """Events by reason: `overflow`, `error`, `closed`, `shutdown`, and further reasons that the exporter reports."""
    pending: int
    failures: int
    """Number of calls of the exporter that raised."""
    state: State
    busy_seconds: float | None
    """Seconds since the start of the exporter's current call; None between calls. Large if the exporter hangs."""
    last_success: float | None
    """Unix time of the last delivered batch; None before the first."""
    last_error: str | None
    """Type of the last exception; None if there was none. The text is omitted, because it may hold content."""


class CollectorStats(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of the collector process, for all processes that write the same log."""

    running: bool
    starts: int
    """Number of collectors that this process has started."""
    pid: int | None
    """Process id of the collector in its own PID namespace. None, like the fields below, before the first report."""
    behind_bytes: int | None
    """Bytes of the log that the slowest exporter has not read yet."""
    exporters: dict[str, ExporterStats]
    """Statistics as of the last report; at most a second old while the collector runs."""
    error: str | None
    """Reason for which the last collector failed; None if it works."""


class SidecarStats(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of a sidecar since its start, or since the fork in a forked child."""

    exporters: dict[str, ExporterStats]
    runs: int
    """Number of started runs."""
    runs_in_progress: int
    unpriced_requests: int
    """Requests with token usage whose model has no known price."""
    recording_errors: int
    """Internal failures of Sidestream while recording. Each is a bug worth reporting; the runs are unaffected."""
    pending_records: int = 0
    """Recorded facts not yet turned into events, and thus missing from the statistics of the exporters."""
    redaction_failures: int = 0
    """Texts for which the redactor raised or returned no string. The exporters never receive these texts."""
    collector: CollectorStats | None = None
    """Statistics of the exporter `collect`; None without that exporter."""
