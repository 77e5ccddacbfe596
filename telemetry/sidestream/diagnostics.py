"""What Sidestream says about itself: through structlog, to the standard `logging` logger named `sidestream`.

So it goes to stderr until the application decides otherwise, and is silenced or routed like any other logger.
No content (prompts, arguments, results, error texts) is ever put in a diagnostic.
"""

from __future__ import annotations

from typing import Any

_said: set[tuple[str, ...]] = set()


def say(level: str, event: str, **fields: Any) -> None:
    """Log `event` with `fields` at `level` (`debug`, `info`, `warning`, `error`). Never raises an `Exception`."""
    try:
        import logging

        import structlog

        logger = structlog.wrap_logger(
            logging.getLogger("sidestream"),
            processors=[structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True)],
            wrapper_class=structlog.stdlib.BoundLogger,
        )
        getattr(logger, level)(event, **fields)
    except Exception:
        pass  # nowhere left to say it


def say_once(level: str, event: str, *key: str, **fields: Any) -> None:
    """`say` it the first time only, for each distinct `event` and `key`."""
    if (event, *key) not in _said:
        if len(_said) < 1_000:  # a bound on memory, for keys that others choose
            _said.add((event, *key))
        say(level, event, **fields)


def forget() -> None:
    """Say everything anew: for tests and for a forked child."""
    _said.clear()
