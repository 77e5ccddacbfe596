"""`sidestream validate`: checks that a log is complete and readable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Paths, choosing_runs

if TYPE_CHECKING:
    from sidestream.log import Filter


@choosing_runs
def validate(where: Filter, paths: Paths = None, as_json: AsJson = False) -> None:
    """Check every line of a log.

    The exit code is 0 if there are no problems, else 1; each problem is printed with file and line.

    Problems of lines: torn, damaged, foreign (not an event), future (of a later version), huge, truncated, unreadable.
    Of runs: gap (missing events), twice, no_start, after_end. A run without an end is not a problem: it may be in
    progress, or was killed (see `sidestream runs --outcome lost`). The options select runs; unreadable lines are always
    reported.

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
