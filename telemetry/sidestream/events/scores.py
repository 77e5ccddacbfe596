"""Scores: judgements of a run by people and programs, as events that any process may write at any time."""

from __future__ import annotations

import math
import os
from datetime import datetime

from sidestream.errors import ConfigurationError

from .model import StreamEvent, make_event
from .payloads import Score

FIRST_SEQ = 2**52
"""Lowest `seq` of a score: above the numbers of all runs, and exact as a float in JavaScript."""
MAX_NAME, MAX_LABEL = 64, 256
"""Maximum length in characters of a score's name and label."""


def checked_score(
    name: str, value: bool | float | None = None, *, label: str | None = None, comment: str | None = None
) -> Score:
    """Make a valid score. Raises `ConfigurationError` if a part is invalid, or value and label are missing."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable() or set(name) & set("<>="):
        raise ConfigurationError(f"score: the name {name!r} must be 1 to {MAX_NAME} characters, without <, > and =")
    if value is not None and (not isinstance(value, bool | int | float) or not math.isfinite(value)):
        raise ConfigurationError(f"score: {name}={value!r}: must be a number, true or false, or None with a label")
    for what, text in (("label", label), ("comment", comment)):
        if text is not None and not isinstance(text, str):
            raise ConfigurationError(f"score: {what} of {name} is a {type(text).__name__}, it must be a string")
    if value is None and not label:
        raise ConfigurationError(f"score: {name} is empty: give a value or a label")
    if label is not None and len(label) > MAX_LABEL:
        label = label[: MAX_LABEL - 1] + "…"
    number = value if value is None or isinstance(value, bool) else float(value)
    return Score(name=name, value=number, label=label or None, comment=comment or None)


def score_event(
    run_id: str, score: Score, *, agent_name: str | None = None, timestamp: datetime | None = None
) -> StreamEvent:
    """Make the event that carries `score`, with a `seq` that is unique within the run."""
    seq = FIRST_SEQ | int.from_bytes(os.urandom(7)) & (FIRST_SEQ - 1)
    return make_event(score, run_id=run_id, seq=seq, agent_name=agent_name, timestamp=timestamp)
