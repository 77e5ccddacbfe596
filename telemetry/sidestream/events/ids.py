"""Trace and span ids that follow from what they name, so that a replay of the log gives the same ones.

A run's trace is the caller's, its parent's, or derived from the run at the root. A span is named by its run and by the
sequence number of the event that begins it: `agent_start` (0), `llm_start` or `tool_start`.
"""

from __future__ import annotations

import hashlib


def derive_id(*parts: str, size: int) -> str:
    """A trace id (`size` 16) or span id (8) in hex, always the same for the same `parts`."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "backslashreplace"), digest_size=size).hexdigest()


def trace_id_of(root_run_id: str) -> str:
    """The trace of a run that nobody else's span encloses, in hex."""
    return derive_id(root_run_id, size=16)


def span_id_of(run_id: str, seq: int) -> str:
    """The span that begins with event `seq` of the run, in hex."""
    return derive_id(run_id, str(seq), size=8)
