"""Trace and span ids that follow from what they name, so that a replay of the log gives the same ones.

A run's trace is the caller's, its parent's, or derived from the run at the root. A span is named by its run and by its
number there: 0 is the run's own, requests and tool calls count up. The event that begins it carries the id; in an older
log, the number is the sequence number of that event.
"""

from __future__ import annotations

import hashlib


def derive_id(*parts: str, size: int) -> str:
    """A trace id (`size` 16) or span id (8) in hex, always the same for the same `parts`."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "backslashreplace"), digest_size=size).hexdigest()


def trace_id_of(root_run_id: str) -> str:
    """The trace of a run that nobody else's span encloses, in hex."""
    return derive_id(root_run_id, size=16)


def span_id_of(run_id: str, number: int) -> str:
    """The id of the span `number` of the run, in hex."""
    return derive_id(run_id, str(number), size=8)
