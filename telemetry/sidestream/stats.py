"""What is counted, and how to read it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

State: TypeAlias = Literal["ok", "failing", "closed"]


class ExporterStats(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of one exporter. `seen == exported + sum(dropped.values()) + pending`, always."""

    seen: int
    exported: int
    dropped: dict[str, int]
    """By reason: `overflow`, `error`, `closed`, `shutdown`, and what the exporter itself reports."""
    pending: int
    failures: int
    """Calls of the exporter that raised."""
    state: State
    busy_seconds: float | None
    """How long the exporter's current call has taken, where it is in one: a hanging exporter shows here."""
    last_success: float | None
    """Unix time of the last batch that was delivered."""
    last_error: str | None
    """Type of the last exception (its text may hold content)."""


class CollectorStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the collector beside the program has taken over, of all the processes that write its log."""

    running: bool
    starts: int
    """How often this process has started one."""
    pid: int | None
    """Its process, as it sees its own number; None while none has told yet, as all that follows."""
    behind_bytes: int | None
    """Bytes of the log that its slowest exporter has not read yet."""
    exporters: dict[str, ExporterStats]
    """As of its last report, a second ago at most while it runs."""
    error: str | None
    """Why the last one could not work."""


class SidecarStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a sidecar has seen and done so far."""

    exporters: dict[str, ExporterStats]
    runs: int
    """Runs that have begun."""
    runs_in_progress: int
    unpriced_requests: int
    """Requests that used tokens of a model without a known price."""
    recording_errors: int
    """Failures of Sidestream's own while recording. Each one is a bug worth a report; no run noticed."""
    pending_records: int = 0
    """What was seen of runs and is in no exporter's statistics yet, since its events are still to be made."""
    redaction_failures: int = 0
    """Texts that the redactor raised on, or returned no text for. They are withheld from the exporters."""
    collector: CollectorStats | None = None
    """Of the exporter `collect`; None without it."""
