"""Redactors of the application: failures are counted and logged once, and the text is withheld."""

from __future__ import annotations

import threading

from sidestream.diagnostics import debug_traceback, warn_once
from sidestream.errors import ConfigurationError
from sidestream.recording.content import Redactor


class CountedRedactor:
    """Redactor that counts calls of `redact` that raised or returned something other than a string.

    Raises `ConfigurationError` if `redact` is not callable, because every text would be withheld.
    """

    def __init__(self, redact: Redactor) -> None:
        if not callable(redact):
            kind = type(redact).__qualname__
            raise ConfigurationError(
                f"redact: must be a function of a text that returns the text to show, not {kind!r}"
            )
        self._redact = redact
        self._lock = threading.Lock()
        self.failures = 0

    def __call__(self, text: str) -> str:
        """Return the exportable form of `text`. Propagates errors of `redact`, on which the text is withheld."""
        try:
            shown = self._redact(text)
            if not isinstance(shown, str):
                raise TypeError(f"a redactor returns the text to show, not {type(shown).__qualname__}")
        except Exception as error:
            with self._lock:
                self.failures += 1
            debug_traceback(error)
            kind = type(error).__qualname__
            warn_once("redactor failed, its texts are withheld", kind, exception=kind)
            raise
        return shown

    def after_fork(self) -> None:
        """Reset the count in a forked child."""
        self._lock = threading.Lock()
        self.failures = 0
