"""`sidestream search`: finds text in a log."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, StoredLog, Unread, choosing_runs, nothing_found

if TYPE_CHECKING:
    from rich.text import Text

    from sidestream.log import Filter, Hit

MATCH = 12
"""Minimum columns of a match that are shown."""
WIDE, MIDDLE = 120, 80
"""Terminal widths from which date and time are shown in full, or without the year; below, not at all."""
ID = 8
"""Characters of a run's id that are shown."""


@choosing_runs
def search(
    where: Filter,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Text to find.")],
    paths: StoredLog = None,
    regex: Annotated[bool, typer.Option("--regex", "-e", help="TEXT is a regular expression, as in Python.")] = False,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i", help="Match regardless of case.")] = False,
    limit: Annotated[int | None, typer.Option("-n", "--limit", metavar="N", min=1, help="Stop after N hits.")] = None,
    newest: Annotated[bool, typer.Option("--newest", help="Start with the latest run.")] = False,
    as_json: AsJson = False,
) -> None:
    r"""Find a text in prompts, answers, tool calls and errors.

    Searches prompts, instructions, answers, thinking, names of tools, arguments, results, outputs and errors. Chunks of
    a streamed answer are joined first. Prints one line for each hit: time, agent, end of the run's id (for `sidestream
    show`), field, and text. With --json: a sidestream.log.Hit on each line.

    Example:  sidestream search refund --agent support

    Example:  sidestream search look_up_order --newest -n 5

    Example:  sidestream search -e -i 'order \d{4}' 'logs/*.jsonl.gz' --json
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
    unread.report()
    if not found:
        raise nothing_found(f"{text!r} was not found")


def _given(where: Filter) -> Filter | None:
    """`where`, or None if it matches every run: the search then need not list the runs."""
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
    if display_width(lead) > space:  # the match starts within the first third of the room
        lead = glyphs().more + lead[len(lead) - max(space - 1, 0) :].lstrip() if space else ""
    line.append(lead + (" " if lead and before[-1:].isspace() else ""))
    line.append(match, HIT)
    line.append((" " if after[:1].isspace() else "") + one_line(after))
    if display_width(line.plain) > width():
        line.truncate(width(), overflow="ellipsis")
    return line


def _place(hit: Hit) -> Text:
    """Time, agent, run and field of a hit, in at most three fifths of the line."""
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
