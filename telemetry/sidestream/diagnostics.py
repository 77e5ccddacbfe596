"""Diagnostics: what Sidestream logs about itself, to the standard logger named `sidestream`.

Where the application has configured logging, they are routed, formatted and silenced like those of any other logger.
Where it has not, warnings go to stderr, each as a line that begins with `sidestream:`.
No content (prompts, arguments, results, error texts) is ever put in a diagnostic. None of the functions raises.
"""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Literal, NamedTuple

PRINT_MILLISECONDS = 100
"""For how long a diagnostic waits for stderr to take it."""
PIPE_BYTES = 4_096
"""What a pipe that can be written to takes without blocking (POSIX's `PIPE_BUF`, on Linux)."""

_said: set[tuple[str, ...]] = set()


def info(message: str, **fields: Any) -> None:
    """Log `message` with `fields`, at level INFO."""
    _log("info", message, fields)


def warn(message: str, **fields: Any) -> None:
    """Log `message` with `fields`, at level WARNING."""
    _log("warning", message, fields)


def info_once(message: str, *key: str, **fields: Any) -> None:
    """Log at level INFO, the first time only for each distinct `message` and `key`."""
    if _is_first(message, key):
        _log("info", message, fields)


def warn_once(message: str, *key: str, **fields: Any) -> None:
    """Log at level WARNING, the first time only for each distinct `message` and `key`."""
    if _is_first(message, key):
        _log("warning", message, fields)


def error_once(message: str, *key: str, **fields: Any) -> None:
    """Log at level ERROR, the first time only for each distinct `message` and `key`."""
    if _is_first(message, key):
        _log("error", message, fields)


class Probe(NamedTuple):
    """Probe for one private name of a library that Sidestream uses."""

    name: str
    holds: bool
    """Whether the installed version has the name, and it does what is expected."""
    lost: str
    """What does not work without it."""


def warn_missing(library: str, probes: Callable[[], Sequence[Probe]]) -> None:
    """Warn, once a process, of each of the `probes` that does not hold. A probe that raises is warned of itself."""
    if not _is_first("probed", (library,)):
        return
    try:
        for probe in probes():
            if not probe.holds:
                warn_once(
                    "private name is gone", library, probe.name, library=library, name=probe.name, lost=probe.lost
                )
    except Exception as error:
        kind = type(error).__qualname__
        warn_once("private names cannot be probed", library, library=library, exception=kind)


def debug_traceback(error: BaseException) -> None:
    """Print the traceback of what an exporter or redactor raised, if `SIDESTREAM_DEBUG` is set. It may hold content."""
    if os.environ.get("SIDESTREAM_DEBUG", "") not in ("", "0"):
        _print("".join(traceback.format_exception(error)))


def forget() -> None:
    """Log everything anew: for tests and for a forked child."""
    _said.clear()


def _log(level: Literal["info", "warning", "error"], message: str, fields: dict[str, Any]) -> None:
    try:
        import logging

        logger = logging.getLogger("sidestream")
        if logger.hasHandlers():
            import structlog

            bound = structlog.wrap_logger(logger, processors=[_render], wrapper_class=structlog.stdlib.BoundLogger)
            getattr(bound, level)(message, **fields)
        elif level != "info" and logger.isEnabledFor(getattr(logging, level.upper())):
            _print(f"sidestream: {_render(None, level, {'event': message, **fields})}\n")
    except Exception:
        pass  # a logging handler of the application's that raises must not end a run, and cannot be logged


def _render(logger: Any, level: str, fields: MutableMapping[str, Any]) -> str:
    message = fields.pop("event")
    return " ".join([message, *(f"{name}={value!r}" for name, value in fields.items())])


def _print(text: str) -> None:
    """Write `text` to stderr, unless stderr is a pipe or terminal that takes nothing now.

    Not through the buffer of `sys.stderr`: a thread that hangs in a write holds the buffer's lock, and the interpreter
    ends with a crash when it comes to flush that buffer.
    """
    stream = sys.stderr
    if stream is None:
        return
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):  # a stream of the application's or a test runner's own
        stream.write(text)
        return
    data = text.encode("utf-8", "backslashreplace")
    if _takes_data(descriptor):
        os.write(descriptor, data[:PIPE_BYTES])


def _takes_data(descriptor: int) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & select.POLLOUT for _, event in poll.poll(PRINT_MILLISECONDS))


def _is_first(message: str, key: tuple[str, ...]) -> bool:
    if (message, *key) in _said:
        return False
    if len(_said) < 1_000:  # a bound on memory, for keys that others choose
        _said.add((message, *key))
    return True
