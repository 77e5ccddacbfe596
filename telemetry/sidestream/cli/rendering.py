"""Output of the commands: coloured and cut to the width on a terminal, plain and uncut in a pipe.

Text from a log is written by models and users: everything goes through `safe`, so that it cannot steer a terminal.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from sidestream.errors import OutputError
from sidestream.events import Payload, StreamEvent
from sidestream.terminal import layout as layouts
from sidestream.terminal import streams
from sidestream.terminal.layout import ASCII, GREEN, RED, YELLOW, Glyphs, Layout
from sidestream.terminal.numbers import humanize_score
from sidestream.terminal.table import Styled, TableCell, table_lines
from sidestream.terminal.text import sanitize, sanitize_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from sidestream.events import Score, Usage
    from sidestream.log import Conversation, Group, RunSummary, ScoreFacts

NARROW = 100
"""Terminals with fewer columns are spared what is least needed."""
LARGE = 50_000_000
"""Bytes of a log that takes a while to read."""
UNCUT = 1_000_000
"""Columns of what is no terminal."""

DIM, BOLD, GOOD, BAD, ODD, HIT = "dim", "bold", "green", "bold red", "yellow", "bold reverse"


# --- out -----------------------------------------------------------------------------------------------------------


def is_terminal() -> bool:
    """Whether a person reads along."""
    return streams.is_terminal(sys.stdout)


def width() -> int:
    """Columns there are."""
    import shutil

    return shutil.get_terminal_size().columns if is_terminal() else UNCUT


@contextlib.contextmanager
def busy(log: Iterable[str | os.PathLike[str]]) -> Iterator[None]:
    """Says on a terminal that a log is being read, if it is one that takes a while."""
    from sidestream.log import log_files
    from sidestream.log.open_store import addresses_among

    log = list(log)
    if addresses_among(log):
        yield
        return
    with contextlib.ExitStack() as stack:
        size = sum(file.stat().st_size for file in log_files(*log) if file.exists())
        if size > LARGE and sys.stderr.isatty():
            from rich.console import Console

            stack.enter_context(Console(stderr=True).status(f"reading {size / 1e6:,.0f} MB"))
        yield


def show(*renderables: Any) -> None:
    """Print what rich can render. In a pipe there are no colours and no blanks at the end of a line."""
    out = io.StringIO()
    console = _console(out)
    for each in renderables:
        console.print(each, soft_wrap=isinstance(each, str))
    text = out.getvalue()
    write(text if is_terminal() else "".join(line.rstrip() + "\n" for line in text.splitlines()))


def _console(out: io.StringIO) -> Console:
    from rich.console import Console

    return Console(
        file=out,
        force_terminal=is_terminal(),
        width=width(),
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )


def write(text: str) -> None:
    """Print `text` as it is; what the output cannot encode is escaped.

    Raises `OutputError` where standard output is closed.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    encoding = getattr(sys.stdout, "encoding", None)
    if encoding and not text.isascii():
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    sys.stdout.write(text)


def write_line(text: str) -> None:
    """Print `text` and a newline, as `write` does."""
    write(text + "\n")


def write_json(value: Any, *, indent: int = 2) -> None:
    """Print one JSON document; with `indent=0` on one line."""
    encoded = msgspec.json.encode(every_field(value))
    write(sanitize_json((msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()) + "\n")


def every_field(value: Any) -> Any:
    """`value` with all fields of its structs, those at their default as well: the keys of our JSON are always the same.

    Events stay as the log has them.
    """
    if isinstance(value, list):
        return [every_field(item) for item in value]
    if isinstance(value, dict):
        return {key: every_field(item) for key, item in value.items()}
    if isinstance(value, msgspec.Struct) and not isinstance(value, StreamEvent | Payload):
        return {name: every_field(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, str) and not value.isascii():  # the name of a file need not be text
        return value.encode("utf-8", "backslashreplace").decode()
    return value


# --- tables ---------------------------------------------------------------------------------------------------------


def show_table(rows: Sequence[Mapping[str, TableCell]], **options: Any) -> None:
    """Print a table, as `table_lines` lays it out."""
    write("".join(f"{line}\n" for line in table_lines(layout(), rows, **options)))


def layout() -> Layout:
    """Layout of the output, for lines that are laid out cell by cell."""
    found = streams.layout_for(sys.stdout) if sys.stdout is not None else Layout()
    return replace(found, width=width()) if found.width is not None else found


def safe(text: object, style: str = "") -> Text:
    """Text from elsewhere on one line, harmless."""
    from rich.text import Text

    return Text(sanitize(str(text)), style)


# --- words and numbers ---------------------------------------------------------------------------------------------


def glyphs() -> Glyphs:
    """Glyphs of the console exporter, in ASCII where the output knows no others."""
    return layout().glyphs


_RICH_STYLES = {GREEN: GOOD, RED: BAD, YELLOW: ODD, layouts.DIM: DIM}


def outcome_cell(value: str) -> Styled:
    """An outcome with its glyph, for a table."""
    glyph, style = layout().verdict(value)
    return Styled(sanitize(f"{glyph} {value}"), style)


def outcome(value: str) -> Text:
    """An outcome with its glyph."""
    glyph, style = layout().verdict(value)
    return safe(f"{glyph} {value}", _RICH_STYLES[style])


def tokens(usage: Usage | None, at_least: bool = False) -> str:
    """Input and output tokens; empty where nobody told, and marked where they are a lower bound."""
    return "" if usage is None else layout().tokens(usage.input_tokens, usage.output_tokens, at_least=at_least)


def cost(usd: float | None, at_least: bool = False, *, unpriced: bool = False) -> str:
    """US dollars; a lower bound is marked, and a cost that nobody knows is no zero."""
    if usd is None:
        return "unpriced" if unpriced else ""
    return layout().cost(usd, at_least=at_least)


def own_tokens(what: RunSummary | Group | Conversation) -> str:
    """Tokens of a run or of a group, without those of sub-agents."""
    return tokens(what.usage, what.is_lower_bound("usage"))


def own_cost(what: RunSummary | Group | Conversation) -> str:
    """Cost of a run or of a group, without that of sub-agents."""
    return cost(what.cost_usd, what.is_lower_bound("cost"), unpriced=what.unpriced_requests > 0)


def score_text(score: Score | ScoreFacts) -> str:
    """A score in a few words: `helpful 0.8 good`."""
    return " ".join(word for word in (score.name, humanize_score(score.value), score.label or "") if word)


def local(moment: datetime | None) -> str:
    """Date and time in this machine's zone, to the second."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def incomplete(run: RunSummary) -> str:
    """What is to be known of how well a run was recorded; empty where all is there."""
    notes = []
    if run.missing and run.chunks:
        notes.append(f"{run.missing:,} events missing")
    if run.duplicates:
        notes.append(f"{run.duplicates:,} events twice")
    return ", ".join(notes)


# --- bars ----------------------------------------------------------------------------------------------------------

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def meter(share: float, columns: int) -> str:
    """A bar for a share of 1."""
    if glyphs() is ASCII:
        return "#" * round(share * columns)
    whole, rest = divmod(round(max(0.0, min(share, 1.0)) * columns * 8), 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def time_bar(begin: float, end: float, whole: float, columns: int, first: float | None = None) -> str:
    """Where a step lies within `whole` seconds, from `begin` to `end`; it waits until `first` and speaks from then."""
    waiting, busy = ("-", "#") if glyphs() is ASCII else ("─", "━")

    def at(moment: float) -> float:
        return max(0.0, min(moment / whole, 1.0)) * columns if whole > 0 else 0.0

    left = min(int(at(begin)), columns - 1)
    right = max(left + 1, min(round(at(end)), columns))
    middle = left if first is None else min(max(round(at(first)), left), right - 1)
    return (" " * left + waiting * (middle - left) + busy * (right - middle)).ljust(columns)
