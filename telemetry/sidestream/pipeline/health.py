"""Health checks of exporters for `sidestream doctor`, from an exporter's optional method `check()`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec


class CheckResult(msgspec.Struct, frozen=True):
    """Result of one health check."""

    ok: bool
    subject: str
    """Subject of the check in a word or two: `endpoint`."""
    message: str
    """Finding, and the remedy for a problem. Contains neither secrets nor content."""


@runtime_checkable
class SupportsCheck(Protocol):
    """Exporter with health checks."""

    def check(self) -> list[CheckResult]:
        """Check the settings and try the sink, for a few seconds at most. Called instead of `start`."""
