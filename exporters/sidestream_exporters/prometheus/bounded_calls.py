"""Calls within a time limit: a timeout of a socket is that of a single read, and looking up a name has none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue


class BoundedCalls:
    """Makes one call at a time, each on a thread that is left behind where it takes too long.

    While one is left behind, no other is begun: a gateway that never comes back holds one thread.
    """

    def __init__(self) -> None:
        self._left: threading.Thread | None = None

    def call(self, function: Callable[[], None], seconds: float) -> None:
        """Call `function`. Raises `TimeoutError` after `seconds`, else what it raises."""
        if self._left is not None:
            self._left.join(seconds)
            if self._left.is_alive():
                raise TimeoutError("timed out")
            self._left = None
        results: SimpleQueue[BaseException | None] = SimpleQueue()

        def run() -> None:
            try:
                function()
            except BaseException as error:
                results.put(error)
            else:
                results.put(None)

        thread = threading.Thread(target=run, name="sidestream-metrics-push", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is going down, or the system has no more threads
            function()
            return
        try:
            error = results.get(timeout=seconds)
        except Empty:
            self._left = thread
            raise TimeoutError("timed out") from None
        if error is not None:
            raise error
