"""Tickets for waiting on exporters in a flush or close."""

from __future__ import annotations

from queue import SimpleQueue


class Ticket:
    """Ticket of a flush or close, completed once all exporters have delivered the earlier events (and closed, on a
    close).

    Each exporter puts one item into `done`. `SimpleQueue` is reentrant, unlike `Event` and `Condition`, so that a
    finalizer or signal handler that interrupts a wait may put as well.
    """

    def __init__(self, *, close: bool = False) -> None:
        self.close = close
        self.done: SimpleQueue[None] = SimpleQueue()
        self.distributed = False
        """Whether every subscription has received the ticket."""
