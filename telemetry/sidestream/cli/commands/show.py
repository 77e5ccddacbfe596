"""`sidestream show`: one run as a tree of its steps, with times and content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Log, Unread, choosing_runs, no_runs, nothing_found
from sidestream.errors import ConfigurationError

if TYPE_CHECKING:
    from sidestream.log import Filter, RunLog, RunSummary
    from sidestream.terminal.layout import Layout

WHOLE_ID = 36
"""Characters of a full id."""


@choosing_runs
def show(
    where: Filter,
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Id of the run, or its beginning or end; or its trace id.")
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="The last run; the default.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="The last run that failed: error, timed_out, lost.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Show prompts, answers, arguments and results in full.")] = False,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Show one run as a tree of its steps.

    Each request, tool call and sub-agent has a bar for its time (the thin line is the wait for the first token),
    tokens, cost, and content. With --json: sidestream.log.RunLog, with the time of every delta, and the file and line
    of every event.

    Example:  sidestream show --failed --agent support

    Example:  sidestream show b855 --full --log 'logs/*.jsonl.gz'
    """
    from sidestream.cli.rendering import busy, layout, write, write_json
    from sidestream.log import Filter, load_run, runs

    if (run is not None) + last + failed > 1:
        raise ConfigurationError("show: give one of RUN, --last and --failed")
    paths = log or [DEFAULT_LOG]
    unread = Unread()
    with busy(paths):
        if run is not None and len(run) == WHOLE_ID and where == Filter():
            loaded = load_run(paths, run)  # a full id: reading the list of runs is unnecessary
        else:
            known = runs(paths, where, on_problem=unread)
            unread.report()
            loaded = load_run(paths, _chosen(run, known, failed, where))
    if as_json:
        write_json(loaded)
    else:
        write("".join(line + "\n" for line in _lines(loaded, layout(), full)))


def _chosen(name: str | None, every: Sequence[RunSummary], failed: bool, where: Filter) -> str:
    """Id of the selected run."""
    from sidestream.events import verdict_of
    from sidestream.log.runs.naming import named_run

    known = [each for each in every if not failed or verdict_of(each.outcome) == "fault"]
    if name is not None:
        return named_run(name, known).run_id
    if not known:
        raise nothing_found("no run failed") if failed and every else no_runs(where)
    # Prefer an outermost run, which shows its sub-agents. A failed sub-agent counts, because its caller may have
    # succeeded.
    return ([each for each in known if failed or each.parent_run_id is None] or known)[-1].run_id


def _lines(loaded: RunLog, view: Layout, full: bool) -> Iterator[str]:
    from sidestream.cli.steps import Sheet, head

    yield from head(loaded, view)
    sheet = Sheet(view, whole=_whole(loaded), full=full)
    yield from sheet.content("prompt", loaded.prompt, 0)
    yield ""
    for depth, run, step in loaded.walk():
        yield from sheet.step(depth, run, step)


def _whole(loaded: RunLog) -> float:
    """Duration in seconds, from the start of the run to its last known event."""
    ends: list[Any] = [loaded.summary.duration_seconds or 0.0]
    for _, run, step in loaded.walk():
        ends.append(run.start + step.start + (step.duration_seconds or 0.0))
    return float(max(ends))
