"""`sidestream errors`: the errors of a log, grouped by kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, StoredLog, Unread, choosing_runs, nothing_found

if TYPE_CHECKING:
    from sidestream.log import ErrorGroup, Filter
    from sidestream.terminal.table import TableCell


@choosing_runs
def errors(
    where: Filter,
    paths: StoredLog = None,
    last: Annotated[
        int | None, typer.Option("-n", "--limit", metavar="N", min=1, help="The N kinds with the latest errors.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Group the errors of a log by kind.

    Errors with the same type, the same place in the application's code, and the same message apart from numbers, ids
    and URLs form one line: how often, in how many runs, first and last time, and the last run. With --json: a list of
    sidestream.log.ErrorGroup.

    Example:  sidestream errors --since 24h

    Example:  sidestream errors 'logs/*.jsonl.gz' --agent support --json
    """
    from sidestream.cli.rendering import busy, show_table, write_json
    from sidestream.log import Filter
    from sidestream.log import errors as read_errors

    unread = Unread()
    log = paths or [DEFAULT_LOG]
    with busy(log):
        found = read_errors(log, None if where == Filter() else where, on_problem=unread)[:last]
    if as_json:
        write_json(found)
    elif found:
        show_table(
            [_row(each) for each in found],
            right=("count", "runs"),
            elastic=("message", "place"),
            spare=("first", "place", "where"),
        )
    unread.report()
    if not found and not as_json:
        raise nothing_found("no error in this log")


def _row(group: ErrorGroup) -> dict[str, TableCell]:
    from sidestream.cli.rendering import local
    from sidestream.terminal.text import one_line, sanitize

    return {
        "count": f"{group.count:,}",
        "runs": f"{group.runs:,}",
        "last": local(group.last),
        "first": local(group.first),
        "where": sanitize(group.tool_name or group.where),
        "error": sanitize((group.exception_type or "error").rpartition(".")[2]),
        "run": sanitize(group.last_run_id[-4:]),
        # A single error has its own text: with placeholders, `KeyError: 4711` would be `<n>`.
        "message": one_line(group.last_message or group.message if group.count == 1 else group.message, 200),
        "place": sanitize(group.place or ""),
    }
