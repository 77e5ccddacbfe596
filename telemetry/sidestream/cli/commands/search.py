"""`sidestream search`: where something was said."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, StoredLog, Unread, choosing_runs, nothing_found

if TYPE_CHECKING:
    from rich.text import Text

    from sidestream.log import Filter, Hit

MATCH = 12
"""Columns of what was found that are shown at least."""
WIDE, MIDDLE = 120, 80
"""Columns of terminals on which date and time are shown, or without the year; on others not at all."""
ID = 8
"""Characters shown of a run's id."""


@choosing_runs
def search(
    where: Filter,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.")],
    paths: StoredLog = None,
    regex: Annotated[bool, typer.Option("--regex", "-e", help="TEXT is a regular expression, as in Python.")] = False,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i", help="Capitals or not.")] = False,
    limit: Annotated[int | None, typer.Option("-n", "--limit", metavar="N", min=1, help="Stop after N places.")] = None,
    newest: Annotated[bool, typer.Option("--newest", help="The run that began last comes first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find a text in what was said.

    In prompts, instructions, answers, thoughts, names of tools, arguments, results, outputs and errors. Answers are
    searched as they read, not as they were streamed. One line a place: time, agent, the end of the run's id (for
    `sidestream show`), the field, and what stands there. With --json: a sidestream.log.Hit on each line.

    Example:  sidestream search refund --agent support

    Example:  sidestream search look_up_order --newest -n 5

    Example:  sidestream search -e -i 'order \\d{4}' 'logs/*.jsonl.gz' --json
    """
    from sidestream.cli.rendering import show, write_json
    from sidestream.log import search as find

    unread = Unread()
    hits = find(
        paths or DEFAULT_LOG,
        text,
        regex=regex,
        ignore_case=ignore_case,
        where=_given(where),
        newest_first=newest,
        on_problem=unread,
    )
    found = 0
    for hit in itertools.islice(hits, limit):
        found += 1
        if as_json:
            write_json(hit, indent=0)
        else:
            show(_line(hit))
    unread.say()
    if not found:
        raise nothing_found(f"{text!r} was not found")


def _given(where: Filter) -> Filter | None:
    """The filter, or None if it takes every run: then the search need not find out which runs there are."""
    from sidestream.log import Filter

    return None if where == Filter() else where


def _line(hit: Hit) -> Text:
    from sidestream.cli.rendering import HIT, glyphs, width
    from sidestream.terminal.text import display_width, one_line, truncate

    line = _place(hit)
    before, found, after = hit.excerpt[: hit.start], hit.excerpt[hit.start : hit.end], hit.excerpt[hit.end :]
    room = max(width() - display_width(line.plain), MATCH)
    lead, match = one_line(before), truncate(one_line(found), room, glyphs().more)
    space = max(min(room // 3, room - display_width(match) - 1), 0)
    if display_width(lead) > space:  # what was found stands in the first third of what room there is
        lead = glyphs().more + lead[len(lead) - max(space - 1, 0) :].lstrip() if space else ""
    line.append(lead + (" " if lead and before[-1:].isspace() else ""))
    line.append(match, HIT)
    line.append((" " if after[:1].isspace() else "") + one_line(after))
    if display_width(line.plain) > width():
        line.truncate(width(), overflow="ellipsis")
    return line


def _place(hit: Hit) -> Text:
    """Place of a hit: time, agent, run, field. It leaves two fifths of the line to the text at least."""
    from rich.text import Text

    from sidestream.cli.rendering import BOLD, DIM, glyphs, local, safe, width
    from sidestream.terminal.text import display_width, truncate

    moment = local(hit.timestamp)
    field = f"{hit.name} {hit.where}" if hit.name and hit.event_type.startswith("tool") else hit.where
    agent, run = hit.agent_name or "agent", hit.run_id[-ID:]
    when = moment if width() >= WIDE else moment[5:] if width() >= MIDDLE else ""
    line = Text.assemble((when, DIM), "  " if when else "", safe(agent, BOLD), safe(f" {run}  "))
    room = width() * 3 // 5 - display_width(line.plain) - 2
    field = truncate(field, max(room, 8), glyphs().more)
    return line.append(safe(field, DIM)).append("  ")
