"""Layout for a text stream: whether it is a terminal, how wide, with which colours and glyphs."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from .layout import ASCII, UNICODE, Layout


def layout_for(stream: TextIO, color: bool | None = None) -> Layout:
    """What `stream` can show: nothing is cut where it is no terminal.

    Args:
        stream: where the lines will be written.
        color: True or False; by default coloured on a terminal, subject to `NO_COLOR` and `FORCE_COLOR`.
    """
    terminal = is_terminal(stream)
    return Layout(
        width=_width(stream) if terminal else None,
        color=wants_color(terminal) if color is None else color,
        glyphs=UNICODE if _can_encode(stream, "".join(UNICODE)) else ASCII,
    )


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person reads along. False for an object that only writes, a closed file, and no stream at all."""
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
    """Whether to colour, by the environment and what kind of terminal it is."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    if sys.platform == "win32" and not any(os.environ.get(v) for v in ("WT_SESSION", "TERM", "ANSICON", "ConEmuANSI")):
        return False  # an old console prints the escapes as they are
    return terminal and os.environ.get("TERM") != "dumb"


def _can_encode(stream: TextIO, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
