"""Cleanup of the event loop that `run_sync` never closes; its garbage collection would fail a later test."""

from __future__ import annotations

import asyncio
import warnings


def close_forgotten_loop() -> None:
    """Close this thread's event loop, unless it is running (Playwright's)."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # there may be no loop
        try:
            loop = asyncio.get_event_loop()
        except RuntimeError:
            return
    if not loop.is_running():
        loop.close()
        asyncio.set_event_loop(None)
