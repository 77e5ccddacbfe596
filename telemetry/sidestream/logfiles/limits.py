"""Limits of one line of a log: the writer keeps to them, and readers rely on them."""

from __future__ import annotations

MAX_LINE = 64 * 1024 * 1024
"""Maximum length of a line in bytes, written or read."""
MAX_VALUES = 2_000_000
"""Maximum number of JSON values in a line: a line of `[[],[],…` takes twenty times its size in memory."""
