"""Diagnostics that Sidestream logs about itself, through the standard logger `sidestream`.

If the application configures logging, its handlers, formats and levels apply as to any other logger. Otherwise warnings
and errors go to stderr, one line each, prefixed with `sidestream:`. Diagnostics never contain content (prompts,
arguments, results, error texts). No function here raises.
"""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Literal, NamedTuple

PRINT_MILLISECONDS = 100
"""Maximum wait in milliseconds for stderr to become writable."""
PIPE_BYTES = 4_096
"""Bytes that a writable pipe accepts without blocking (`PIPE_BUF` on Linux)."""

_logged: set[tuple[str, ...]] = set()


def info(message: str, **fields: Any) -> None:
    """Log `message` with `fields` at level INFO."""
    _log("info", message, fields)


def warn(message: str, **fields: Any) -> None:
    """Log `message` with `fields` at level WARNING."""
    _log("warning", message, fields)


def info_once(message: str, *key: str, **fields: Any) -> None:
    """Log at level INFO, once for each distinct `message` and `key`."""
    if _is_first(message, key):
        _log("info", message, fields)


def warn_once(message: str, *key: str, **fields: Any) -> None:
    """Log at level WARNING, once for each distinct `message` and `key`."""
    if _is_first(message, key):
        _log("warning", message, fields)


def error_once(message: str, *key: str, **fields: Any) -> None:
    """Log at level ERROR, once for each distinct `message` and `key`."""
    if _is_first(message, key):
        _log("error", message, fields)


class Probe(NamedTuple):
    """Result of a check for one private name of a library on which Sidestream depends."""

    name: str
    holds: bool
    """Whether the installed version has the name with the expected behaviour."""
    lost: str
    """The feature that does not work if the name is missing."""


def warn_missing(library: str, probes: Callable[[], Sequence[Probe]]) -> None:
    """Log a warning for each failed probe of `library`, once per process. A probe that raises is logged as well."""
    if not _is_first("probed", (library,)):
        return
    try:
        for probe in probes():
            if not probe.holds:
                warn_once(
                    "private name is missing", library, probe.name, library=library, name=probe.name, lost=probe.lost
                )
    except Exception as error:
        kind = type(error).__qualname__
        warn_once("private names cannot be probed", library, library=library, exception=kind)


def debug_traceback(error: BaseException) -> None:
    """Print the traceback of an exporter's or redactor's error if `SIDESTREAM_DEBUG` is set. May contain content."""
    if os.environ.get("SIDESTREAM_DEBUG", "") not in ("", "0"):
        _print("".join(traceback.format_exception(error)))


def forget() -> None:
    """Forget which messages have been logged. For tests and forked children."""
    _logged.clear()


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
        pass  # a logging handler of the application that raises must not end a run, and cannot be logged


def _render(logger: Any, level: str, fields: MutableMapping[str, Any]) -> str:
    message = fields.pop("event")
    return " ".join([message, *(f"{name}={value!r}" for name, value in fields.items())])


def _print(text: str) -> None:
    """Write `text` to stderr, unless stderr is a blocked pipe or terminal.

    Bypasses the buffer of `sys.stderr`: a thread that hangs in a write holds the lock of the buffer, and the
    interpreter crashes at exit when flushing a locked buffer.
    """
    stream = sys.stderr
    if stream is None:
        return
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):  # a stream without a descriptor, such as that of a test runner
        stream.write(text)
        return
    data = text.encode("utf-8", "backslashreplace")
    if _takes_data(descriptor):
        os.write(descriptor, data[:PIPE_BYTES])


def _takes_data(descriptor: int) -> bool:
    if sys.platform == "win32" or not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & select.POLLOUT for _, event in poll.poll(PRINT_MILLISECONDS))


def _is_first(message: str, key: tuple[str, ...]) -> bool:
    if (message, *key) in _logged:
        return False
    if len(_logged) < 1_000:  # bounds memory, since keys may come from outside
        _logged.add((message, *key))
    return True
