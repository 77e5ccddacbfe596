"""Checks in a forked child of the test's own process."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable

SAFETY = 40
"""Seconds after which a child is considered hung."""


def in_child(check: Callable[[], None]) -> None:
    """Fork, run `check` in the child, and raise its failure here. The child runs no exit handler."""
    reader, writer = os.pipe()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # other threads are running
        pid = os.fork()
    if pid == 0:
        _report(check, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        failure = pipe.read().decode()
    status = os.waitpid(pid, 0)[1]
    assert not failure, f"in a forked child:\n{failure}"
    assert status == 0, "a forked child crashes"


def _report(check: Callable[[], None], writer: int) -> None:
    """Run `check`, write the traceback of its failure to `writer`, and end the process."""
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        faulthandler.register(signal.SIGALRM, file=writer, chain=True)  # prints the stacks, then kills the process
        signal.alarm(SAFETY)
        sys.settrace(None)
        check()
        code = 0
    except BaseException:
        os.write(writer, traceback.format_exc().encode()[-60_000:])
    finally:
        os._exit(code)
