"""What an exporter finds out about itself for `sidestream doctor`: its optional method `check()` returns findings."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    ok: bool
    about: str
    """What was looked at, in a word or two: `endpoint`."""
    told: str
    """What was found, and where it is wrong, what to do. Never a secret, never content."""


@runtime_checkable
class Checked(Protocol):
    """An exporter that can be asked how it is."""

    def check(self) -> list[Finding]:
        """Look at the settings and try the sink, for some seconds at most. Called instead of `start`, not after it."""
