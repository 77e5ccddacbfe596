"""Servers on the loopback interface, and waiting for conditions."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

PATIENCE = 60.0
"""Maximum seconds to wait on a busy machine."""

_given: set[int] = set()
_random = random.SystemRandom()  # hypothesis seeds `random`, so that two workers would draw the same ports


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for `condition`, which normally holds at once."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def free_port() -> int:
    """A free port of the loopback interface, different in each call.

    Below the ephemeral ports, so that no outgoing connection takes it.
    """
    while True:
        port = _random.randrange(15_000, 32_000)
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def served(app: Any, **options: Any) -> Iterator[str]:
    """Serve the ASGI application `app` on a free port with uvicorn and `options`; yields the URL."""
    import uvicorn

    quiet: dict[str, Any] = {"log_level": "error", "timeout_graceful_shutdown": 1, **options}
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, **quiet))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
