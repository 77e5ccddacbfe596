"""`sidestream conversations`: a table of the conversations of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, StoredLog, Unread, choosing_runs, nothing_found

if TYPE_CHECKING:
    from sidestream.log import Conversation, Filter
    from sidestream.terminal.table import TableCell


@choosing_runs
def conversations(
    where: Filter,
    paths: StoredLog = None,
    last: Annotated[int | None, typer.Option("-n", "--limit", metavar="N", min=1, help="The last N.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the conversations of a log: runs that your program gave the same conversation id.

    The conversation with the latest turn is last. Turns, time, tokens and cost are those of the whole conversation,
    including sub-agents, even if only some of its runs match. `sidestream runs --conversation ID` lists the turns. With
    --json: a list of sidestream.log.Conversation.

    Example:  sidestream conversations --since 24h --tag tenant=acme

    Example:  sidestream conversations --outcome error --json
    """
    from sidestream.cli.rendering import busy, show_table, write_json
    from sidestream.log import conversations as read_conversations

    unread = Unread()
    log = paths or [DEFAULT_LOG]
    with busy(log):
        found = read_conversations(log, where, last=last, on_problem=unread)
    if as_json:
        write_json(found)
    elif found:
        show_table(
            [_row(each) for each in found],
            right=("turns", "took", "tokens", "cost"),
            elastic=("conversation", "agents", "notes"),
            spare=("notes", "tokens", "took", "agents", "began"),
        )
    unread.report()
    if not found:
        raise nothing_found("no such conversations in this log: only runs with a conversation id have one")


def _row(each: Conversation) -> dict[str, TableCell]:
    from sidestream.cli.rendering import layout, local, outcome_cell, own_cost, own_tokens
    from sidestream.terminal.numbers import humanize_seconds
    from sidestream.terminal.table import Styled
    from sidestream.terminal.text import sanitize

    others = [f"{number:,} {name}" for name, number in each.outcomes.items() if name not in ("completed",)]
    style = layout().verdict(each.last_outcome)[1]
    return {
        "began": local(each.started),
        "latest turn": local(each.last),
        "conversation": sanitize(each.conversation_id),
        "turns": f"{len(each.turns):,}",
        "last": outcome_cell(each.last_outcome),
        "took": humanize_seconds(each.duration_seconds),
        "tokens": own_tokens(each),
        "cost": own_cost(each),
        "agents": sanitize(", ".join(each.agents)),
        "notes": Styled(
            sanitize(", ".join([*others, *(f"{name}={value}" for name, value in each.tags.items())])), style
        ),
    }
