"""Scores that a person gives on the page of a run: the one place where the pages write."""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Sequence
from hashlib import sha256

from sidestream.events import Score
from sidestream.log import RunSummary
from sidestream.log.noting import ScoreWriter


class Scoring:
    """Scores from the pages over the log at `paths`. Safe to use from several threads."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._secret = secrets.token_bytes(32)
        self._writer = ScoreWriter(paths)
        self._lock = threading.Lock()

    def token(self, run_id: str) -> str:
        """Token of the form on the page of a run: nobody who has not read the page knows it."""
        return hmac.new(self._secret, run_id.encode("utf-8", "backslashreplace"), sha256).hexdigest()

    def is_token(self, given: str, run_id: str) -> bool:
        """Whether `given` is the token of that run's form."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token(run_id).encode())

    def is_possible(self, run: RunSummary) -> bool:
        """Whether a score of `run` can be written, as far as permissions tell."""
        return self._writer.may_write(run)

    def write(self, run: RunSummary, score: Score) -> None:
        """Write `score` of `run` into the log. Raises what `ScoreWriter.write` raises."""
        with self._lock:
            self._writer.write(run, [score])

    def close(self) -> None:
        """Release the files."""
        with self._lock:
            self._writer.close()
