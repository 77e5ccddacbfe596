"""Accounting of one exporter: seen = exported + dropped + pending, at every moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Counts(NamedTuple):
    """Counts of an exporter's events. Immutable and replaced as a whole, so that readers need no lock."""

    exported: int = 0
    pending: int = 0
    dropped: Mapping[str, int] = {}

    def drop(self, reason: str, count: int) -> Counts:
        """Return counts with `count` more dropped events; `pending` is unchanged."""
        return self._replace(dropped={**self.dropped, reason: self.dropped.get(reason, 0) + count}) if count else self
