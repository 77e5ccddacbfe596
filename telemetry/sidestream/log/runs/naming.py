"""Names for a single run: its id, the beginning or end of the id, or its trace."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from sidestream.errors import ConfigurationError

from .summary import RunSummary

SHORTEST_ID = 4
"""Minimum characters of an id that name a run; the console exporter shows as many."""


def named_run(name: str, known: Sequence[RunSummary]) -> RunSummary:
    """Run of `known` with the name `name`: its id, the beginning or end of its id, or its trace.

    Raises `ConfigurationError` if no run or several runs match.
    """
    wanted = name.strip().lower()
    exact = [run for run in known if wanted in (run.run_id.lower(), run.trace_id)]
    # The runs of a trace share the name: prefer the outermost.
    exact = [run for run in exact if run.parent_run_id is None] or exact
    found = exact or [run for run in known if is_called(run.run_id.lower(), wanted)]
    if not found:
        raise ConfigurationError(f"run {name!r}: no such run in this log; `sidestream runs` lists them")
    if len(found) > 1 and not exact:
        length = id_length(found, found)
        some = ", ".join(ascii(run.run_id[-length:])[1:-1] for run in found[-5:])
        more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
        raise ConfigurationError(f"run {name!r}: {len(found):,} runs match; write more of the id: {some}{more}")
    return found[-1]


def called(name: str, runs: Iterable[RunSummary]) -> list[RunSummary]:
    """Runs of the trace `name`, and runs whose id begins or ends with `name`."""
    wanted = name.strip().lower()
    return [run for run in runs if wanted == run.trace_id or is_called(run.run_id.lower(), wanted)]


def is_called(run_id: str, wanted: str) -> bool:
    """Whether the id `run_id` begins or ends with `wanted`, both in lower case."""
    return bool(wanted) and (run_id.endswith(wanted) or run_id.startswith(wanted))


def id_length(shown: Iterable[RunSummary], known: Iterable[RunSummary]) -> int:
    """Length of the id suffix that distinguishes each run of `shown` within `known`. Ids of one time begin alike."""
    ends = sorted({run.run_id[::-1] for run in known})
    length = SHORTEST_ID
    for run in shown:
        end = run.run_id[::-1]
        at = bisect_left(ends, end)
        for other in ends[max(at - 1, 0) : at + 2]:
            while other != end and other.startswith(end[:length]):
                length += 1
    return length
