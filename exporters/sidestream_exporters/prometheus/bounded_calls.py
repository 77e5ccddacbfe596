"""Calls with an overall time limit: a socket timeout bounds a single read only, and a name lookup has none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue


class BoundedCalls:
    """Caller of functions on a thread, which is abandoned once the time limit is over.

    No call starts while an abandoned thread still runs: a gateway that hangs holds one thread at most.
    """

    def __init__(self) -> None:
        self._left: threading.Thread | None = None

    def call(self, function: Callable[[], None], seconds: float) -> None:
        """Call `function`. Raises `TimeoutError` after `seconds`; exceptions of `function` propagate.

        An abandoned thread that still runs gets up to `seconds` first, to end.
        """
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
        except RuntimeError:  # interpreter shutdown, or the thread limit is reached
            function()
            return
        try:
            error = results.get(timeout=seconds)
        except Empty:
            self._left = thread
            raise TimeoutError("timed out") from None
        if error is not None:
            raise error
