"""How a single run is named: by its id, the beginning or end of it, or its trace."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from sidestream.errors import ConfigurationError

from .summary import RunSummary

SHORTEST_ID = 4
"""Characters of a run's id by which it is called at least; the console exporter shows as many."""


def named_run(name: str, known: Sequence[RunSummary]) -> RunSummary:
    """The run of `known` that is called `name`: by its id, or by how that begins or ends; or by its trace.

    Raises `ConfigurationError` where there is none, or more than one.
    """
    wanted = name.strip().lower()
    exact = [run for run in known if wanted in (run.run_id.lower(), run.trace_id)]
    # Several runs share a trace: the outermost is meant.
    exact = [run for run in exact if run.parent_run_id is None] or exact
    found = exact or [run for run in known if is_called(run.run_id.lower(), wanted)]
    if not found:
        raise ConfigurationError(f"run {name!r}: no such run in this log; `sidestream runs` lists them")
    if len(found) > 1 and not exact:
        length = id_length(found, found)
        some = ", ".join(ascii(run.run_id[-length:])[1:-1] for run in found[-5:])
        more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
        raise ConfigurationError(f"run {name!r}: {len(found):,} runs are called so; write more of it: {some}{more}")
    return found[-1]


def called(name: str, runs: Iterable[RunSummary]) -> list[RunSummary]:
    """The runs of the trace `name`, and those whose id is `name` or begins or ends so."""
    wanted = name.strip().lower()
    return [run for run in runs if wanted == run.trace_id or is_called(run.run_id.lower(), wanted)]


def is_called(run_id: str, wanted: str) -> bool:
    """Whether the id `run_id` begins or ends with `wanted`, both in lower case."""
    return bool(wanted) and (run_id.endswith(wanted) or run_id.startswith(wanted))


def id_length(shown: Iterable[RunSummary], known: Iterable[RunSummary]) -> int:
    """Length of the id suffix that distinguishes each run of `shown` within `known`. Ids of a time begin alike."""
    ends = sorted({run.run_id[::-1] for run in known})
    length = SHORTEST_ID
    for run in shown:
        end = run.run_id[::-1]
        at = bisect_left(ends, end)
        for other in ends[max(at - 1, 0) : at + 2]:
            while other != end and other.startswith(end[:length]):
                length += 1
    return length
