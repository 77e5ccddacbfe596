"""Diagnostics: what Sidestream logs about itself, through structlog, to the standard logger named `sidestream`.

So it goes to stderr until the application decides otherwise, and is silenced or routed like any other logger.
No content (prompts, arguments, results, error texts) is ever put in a diagnostic. None of the functions raises.
"""

from __future__ import annotations

from typing import Any, Literal

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


def forget() -> None:
    """Log everything anew: for tests and for a forked child."""
    _said.clear()


def _log(level: Literal["info", "warning", "error"], message: str, fields: dict[str, Any]) -> None:
    try:
        import logging

        import structlog

        logger = structlog.wrap_logger(
            logging.getLogger("sidestream"),
            processors=[structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True)],
            wrapper_class=structlog.stdlib.BoundLogger,
        )
        getattr(logger, level)(message, **fields)
    except Exception:
        pass  # a logging handler of the application's that raises must not end a run, and there is nowhere to tell


def _is_first(message: str, key: tuple[str, ...]) -> bool:
    if (message, *key) in _said:
        return False
    if len(_said) < 1_000:  # a bound on memory, for keys that others choose
        _said.add((message, *key))
    return True
