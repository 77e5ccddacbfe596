"""Output of the commands: coloured and cut to the width of a terminal, plain and uncut in a pipe.

Text in a log comes from models and users. All of it passes `safe` or `sanitize`, because control characters in it could
take over the terminal.
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
"""Columns of a terminal below which the least important table columns are shortened."""
LARGE = 50_000_000
"""Bytes of a log from which a progress message is shown."""
UNCUT = 1_000_000
"""Columns of an output that is not a terminal."""

DIM, BOLD, GOOD, BAD, ODD, HIT = "dim", "bold", "green", "bold red", "yellow", "bold reverse"


# --- output --------------------------------------------------------------------------------------------------------


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return streams.is_terminal(sys.stdout)


def width() -> int:
    """Width of the output in columns."""
    import shutil

    return shutil.get_terminal_size().columns if is_terminal() else UNCUT


@contextlib.contextmanager
def busy(log: Iterable[str | os.PathLike[str]]) -> Iterator[None]:
    """Show a progress message on a terminal while a large log is read."""
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
    """Print rich renderables; in a pipe without colours and without trailing spaces."""
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
    """Print `text`; characters that the output cannot encode are escaped.

    Raises `OutputError` if standard output is closed.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    encoding = getattr(sys.stdout, "encoding", None)
    if encoding and not text.isascii():
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    sys.stdout.write(text)


def write_line(text: str) -> None:
    """Print `text` and a newline, like `write`."""
    write(text + "\n")


def write_json(value: Any, *, indent: int = 2) -> None:
    """Print one JSON document; with `indent=0` on one line."""
    encoded = msgspec.json.encode(every_field(value))
    write(sanitize_json((msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()) + "\n")


def every_field(value: Any) -> Any:
    """`value` as plain objects with every field, including defaults, so that the JSON output always has the same keys.

    Events are left as they are in the log.
    """
    if isinstance(value, list):
        return [every_field(item) for item in value]
    if isinstance(value, dict):
        return {key: every_field(item) for key, item in value.items()}
    if isinstance(value, msgspec.Struct) and not isinstance(value, StreamEvent | Payload):
        return {name: every_field(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, str) and not value.isascii():  # file names need not be valid text
        return value.encode("utf-8", "backslashreplace").decode()
    return value


# --- tables ---------------------------------------------------------------------------------------------------------


def show_table(rows: Sequence[Mapping[str, TableCell]], **options: Any) -> None:
    """Print a table, laid out by `table_lines`."""
    write("".join(f"{line}\n" for line in table_lines(layout(), rows, **options)))


def layout() -> Layout:
    """Layout of standard output."""
    found = streams.layout_for(sys.stdout) if sys.stdout is not None else Layout()
    return replace(found, width=width()) if found.width is not None else found


def safe(text: object, style: str = "") -> Text:
    """`text` sanitized for the terminal, on one line."""
    from rich.text import Text

    return Text(sanitize(str(text)), style)


# --- text and numbers ----------------------------------------------------------------------------------------------


def glyphs() -> Glyphs:
    """Glyphs of the layout, ASCII if the output supports no others."""
    return layout().glyphs


_RICH_STYLES = {GREEN: GOOD, RED: BAD, YELLOW: ODD, layouts.DIM: DIM}


def outcome_cell(value: str) -> Styled:
    """Outcome with its glyph, as a table cell."""
    glyph, style = layout().verdict(value)
    return Styled(sanitize(f"{glyph} {value}"), style)


def outcome(value: str) -> Text:
    """Outcome with its glyph."""
    glyph, style = layout().verdict(value)
    return safe(f"{glyph} {value}", _RICH_STYLES[style])


def tokens(usage: Usage | None, at_least: bool = False) -> str:
    """Input and output tokens, marked if a lower bound; empty if unknown."""
    return "" if usage is None else layout().tokens(usage.input_tokens, usage.output_tokens, at_least=at_least)


def cost(usd: float | None, at_least: bool = False, *, unpriced: bool = False) -> str:
    """Cost in US dollars, marked if a lower bound; never 0 if unknown."""
    if usd is None:
        return "unpriced" if unpriced else ""
    return layout().cost(usd, at_least=at_least)


def own_tokens(what: RunSummary | Group | Conversation) -> str:
    """Tokens of a run or a group, without sub-agents."""
    return tokens(what.usage, what.is_lower_bound("usage"))


def own_cost(what: RunSummary | Group | Conversation) -> str:
    """Cost of a run or a group, without sub-agents."""
    return cost(what.cost_usd, what.is_lower_bound("cost"), unpriced=what.unpriced_requests > 0)


def score_text(score: Score | ScoreFacts) -> str:
    """Score in a few words: `helpful 0.8 good`."""
    return " ".join(word for word in (score.name, humanize_score(score.value), score.label or "") if word)


def local(moment: datetime | None) -> str:
    """Local date and time, to the second."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def incomplete(run: RunSummary) -> str:
    """Note on missing and duplicate events of a run; empty if there are none."""
    notes = []
    if run.missing and run.chunks:
        notes.append(f"{run.missing:,} events missing")
    if run.duplicates:
        notes.append(f"{run.duplicates:,} events twice")
    return ", ".join(notes)


# --- bars ----------------------------------------------------------------------------------------------------------

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def meter(share: float, columns: int) -> str:
    """Bar for `share`, from 0 to 1."""
    if glyphs() is ASCII:
        return "#" * round(share * columns)
    whole, rest = divmod(round(max(0.0, min(share, 1.0)) * columns * 8), 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def time_bar(begin: float, end: float, whole: float, columns: int, first: float | None = None) -> str:
    """Bar of a step from `begin` to `end` in a run of `whole` seconds; thin until the first token at `first`."""
    waiting, busy = ("-", "#") if glyphs() is ASCII else ("─", "━")

    def at(moment: float) -> float:
        return max(0.0, min(moment / whole, 1.0)) * columns if whole > 0 else 0.0

    left = min(int(at(begin)), columns - 1)
    right = max(left + 1, min(round(at(end)), columns))
    middle = left if first is None else min(max(round(at(first)), left), right - 1)
    return (" " * left + waiting * (middle - left) + busy * (right - middle)).ljust(columns)
