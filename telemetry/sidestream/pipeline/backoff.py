"""Back-off: delays between retries of a failing operation."""

from __future__ import annotations

import random


class Backoff:
    """Delays from `first` to `longest` seconds, doubled with each consecutive failure, with 20% jitter so that many
    processes do not retry at the same moment.
    """

    def __init__(self, first: float = 0.25, longest: float = 30.0) -> None:
        self.first = first
        self.longest = longest
        self.failures = 0
        """Number of consecutive failures."""

    def fail(self) -> None:
        """Count a failure."""
        self.failures += 1

    def succeed(self) -> int:
        """Reset the delay; returns the number of consecutive failures so far."""
        failures, self.failures = self.failures, 0
        return failures

    def delay(self) -> float:
        """Seconds to wait after the last failure."""
        doubled = self.first * 2.0 ** min(self.failures - 1, 10)
        return min(self.longest, doubled) * random.uniform(0.8, 1.2)
