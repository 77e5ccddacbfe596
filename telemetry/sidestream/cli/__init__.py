"""The command line: one file a command under `commands/`, and what the commands share beside it."""

from .app import main

__all__ = ["main"]
