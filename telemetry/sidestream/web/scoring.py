"""Scores submitted on the page of a run, the only data that the pages write."""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Sequence
from hashlib import sha256

from sidestream.events import Score
from sidestream.log import RunSummary
from sidestream.log.score_writer import ScoreWriter


class Scoring:
    """Writer of submitted scores to the log at `paths`. Thread-safe."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._secret = secrets.token_bytes(32)
        self._writer = ScoreWriter(paths)
        self._lock = threading.Lock()

    def token(self, run_id: str) -> str:
        """CSRF token of the score form on the page of a run."""
        return hmac.new(self._secret, run_id.encode("utf-8", "backslashreplace"), sha256).hexdigest()

    def is_token(self, given: str, run_id: str) -> bool:
        """Whether `given` is the CSRF token of the run's form."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token(run_id).encode())

    def is_possible(self, run: RunSummary) -> bool:
        """Whether the file permissions allow a score of `run`."""
        return self._writer.may_write(run)

    def write(self, run: RunSummary, score: Score) -> None:
        """Append `score` of `run` to the log. Raises the exceptions of `ScoreWriter.write`."""
        with self._lock:
            self._writer.write(run, [score])

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            self._writer.close()
