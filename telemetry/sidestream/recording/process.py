"""Identity of this process among those that write a log."""

from __future__ import annotations

import socket
from functools import cache


@cache
def hostname() -> str:
    """This machine's name."""
    return socket.gethostname()
