"""Tickets: how a flush or a close waits for the exporters."""

from __future__ import annotations

from queue import SimpleQueue


class Ticket:
    """Ticket of a flush or close: done when all exporters have delivered what came before it, and are closed if wanted.

    `done` is a doorbell: rung for each exporter that has. `SimpleQueue` is reentrant, unlike `Event` and `Condition`: a
    finalizer or signal handler that interrupts a wait may ring it.
    """

    def __init__(self, *, close: bool = False) -> None:
        self.close = close
        self.done: SimpleQueue[None] = SimpleQueue()
        self.passed_on = False
        """Whether every subscription has it."""
