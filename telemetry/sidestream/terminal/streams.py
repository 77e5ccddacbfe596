"""Detection of a text stream's layout: terminal, width, colours and glyphs."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from .layout import ASCII, UNICODE, Layout


def layout_for(stream: TextIO, color: bool | None = None) -> Layout:
    """Layout that `stream` can show. Only a terminal has a width.

    Args:
        stream: Stream of the lines.
        color: True or False; None colours on a terminal, subject to `NO_COLOR` and `FORCE_COLOR`.
    """
    terminal = is_terminal(stream)
    return Layout(
        width=_width(stream) if terminal else None,
        color=wants_color(terminal) if color is None else color,
        glyphs=UNICODE if _can_encode(stream, "".join(UNICODE)) else ASCII,
    )


def is_terminal(stream: TextIO | None) -> bool:
    """Whether `stream` is a terminal. False for None, a closed file, or an object without `isatty`."""
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):
        return False


def _width(stream: TextIO) -> int | None:
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (AttributeError, ValueError, OSError):
        return None


def wants_color(terminal: bool) -> bool:
    """Whether to colour, by `NO_COLOR`, `FORCE_COLOR` and the kind of terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    if sys.platform == "win32" and not any(os.environ.get(v) for v in ("WT_SESSION", "TERM", "ANSICON", "ConEmuANSI")):
        return False  # the legacy Windows console prints escape sequences as text
    return terminal and os.environ.get("TERM") != "dumb"


def _can_encode(stream: TextIO, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
