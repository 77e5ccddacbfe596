"""`sidestream validate`: whether a log is whole, and if not, what is wrong with which line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Paths, choosing_runs

if TYPE_CHECKING:
    from sidestream.log import Filter


@choosing_runs
def validate(where: Filter, paths: Paths = None, as_json: AsJson = False) -> None:
    """Check every line of a log.

    Exit code 0 if all is well, 1 with each problem's file and line if not.

    Lines: torn, damaged, foreign (no event of ours), future (of a later version), huge, truncated, unreadable. Runs:
    gap (events that are missing), twice, no_start, after_end. That a run has no end is no problem: it may be going on,
    or was killed (see `sidestream runs --outcome lost`). The options choose runs; bad lines are told in any case.

    Example:  sidestream validate runs/ || echo "something is wrong"

    Example:  sidestream validate 'logs/*.jsonl.gz' --json
    """
    from sidestream.cli.rendering import safe, show, write_json
    from sidestream.log import Filter, log_files, runs
    from sidestream.terminal.numbers import counted

    from .checking import Check, Fault

    files = log_files(*(paths or [DEFAULT_LOG]))
    check = Check(None if where == Filter() else {run.run_id for run in runs(files, where)})
    found = 0
    kept: list[Fault] = []
    for fault in check.faults(map(str, files)):
        found += 1
        if as_json:
            kept.append(fault)
        else:
            show(safe(f"{fault.file}:{fault.line}: {fault.kind}: {fault.message}"))
    if as_json:
        write_json({"files": len(files), "runs": check.runs, "events": check.events, "problems": kept})
    else:
        counts = ", ".join((counted(len(files), "file"), counted(check.runs, "run"), counted(check.events, "event")))
        show(f"{counts}: {counted(found, 'problem') if found else 'no problems'}")
    if found:
        raise typer.Exit(1)
