"""Back-off: how long to leave alone what keeps failing."""

from __future__ import annotations

import random


class Backoff:
    """Delays that double with each failure in a row, from `first` to `longest` seconds, a fifth shorter or longer by
    chance, so that many processes do not come back at once."""

    def __init__(self, first: float = 0.25, longest: float = 30.0) -> None:
        self.first = first
        self.longest = longest
        self.failures = 0
        """In a row."""

    def fail(self) -> None:
        """Count one more failure."""
        self.failures += 1

    def succeed(self) -> int:
        """Start anew; returns how many failures in a row there have been."""
        failures, self.failures = self.failures, 0
        return failures

    def delay(self) -> float:
        """Seconds to wait after the last failure."""
        doubled = self.first * 2.0 ** min(self.failures - 1, 10)
        return min(self.longest, doubled) * random.uniform(0.8, 1.2)
