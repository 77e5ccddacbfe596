"""Command line: one module for each command in `commands/`, and helpers that the commands share."""

from .app import main

__all__ = ["main"]
