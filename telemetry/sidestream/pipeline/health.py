"""Health checks of exporters, for `sidestream doctor`: an exporter's optional method `check()` returns the results."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec


class CheckResult(msgspec.Struct, frozen=True):
    """Result of one health check."""

    ok: bool
    subject: str
    """What was looked at, in a word or two: `endpoint`."""
    message: str
    """What was found, and where it is wrong, what to do. Never a secret, never content."""


@runtime_checkable
class SupportsCheck(Protocol):
    """An exporter with health checks."""

    def check(self) -> list[CheckResult]:
        """Look at the settings and try the sink, for some seconds at most. Called instead of `start`, not after it."""
