"""Trace and span ids, derived from run ids, so that replays of a log produce identical ids.

The trace id of a run is inherited from the caller's span or the parent run; otherwise derived from the root run's id. A
span id is derived from the run id and the span's number: 0 for the run, then counting up for requests and tool calls.
The event that starts a span carries the id; in logs of older versions, the number is the sequence number of this event.
"""

from __future__ import annotations

import hashlib


def derive_id(*parts: str, size: int) -> str:
    """Trace id (`size` 16) or span id (8) in hex; a pure function of `parts`."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "backslashreplace"), digest_size=size).hexdigest()


def trace_id_of(root_run_id: str) -> str:
    """Trace id, in hex, of a root run without an enclosing span."""
    return derive_id(root_run_id, size=16)


def span_id_of(run_id: str, number: int) -> str:
    """Id of the span `number` of the run, in hex."""
    return derive_id(run_id, str(number), size=8)
