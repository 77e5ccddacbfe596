"""Limits of one line of a log, which the writer keeps and every reader relies on."""

from __future__ import annotations

MAX_LINE = 64 * 1024 * 1024
"""Bytes of the longest line that is written or read."""
MAX_VALUES = 2_000_000
"""Values in one line that are decoded at most: one of `[[],[],…` takes twenty times its size in memory."""
