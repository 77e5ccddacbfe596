"""Redactors of the application's own, which may fail: counted, logged once, and the text is withheld."""

from __future__ import annotations

import threading

from sidestream.diagnostics import debug_traceback, warn_once
from sidestream.errors import ConfigurationError
from sidestream.recording.content import Redactor


class CountedRedactor:
    """Redactor that counts how often `redact` raised or returned something that is no text.

    Raises `ConfigurationError` where `redact` cannot be called: every text would be withheld.
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
        """What may be shown of `text`. Raises what `redact` raises: `apply_policy` then shows nothing of the text."""
        try:
            shown = self._redact(text)
            if not isinstance(shown, str):
                raise TypeError(f"a redactor returns the text to show, not {type(shown).__qualname__}")
        except Exception as error:
            with self._lock:
                self.failures += 1
            debug_traceback(error)
            kind = type(error).__qualname__
            warn_once("redactor failed, the texts it was given are withheld", kind, exception=kind)
            raise
        return shown

    def after_fork(self) -> None:
        """In a forked child: start counting anew."""
        self._lock = threading.Lock()
        self.failures = 0
