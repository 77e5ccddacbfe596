"""Template filters: numbers, times and texts as people read them. Unknown values are a dash, never a zero."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from sidestream.events import Score, Verdict, verdict_of
from sidestream.events.traceback import place_of, traceback_lines
from sidestream.log import ScoreFacts
from sidestream.terminal import numbers
from sidestream.terminal.text import one_line, sanitize

UNKNOWN = "–"

_TONES: dict[Verdict, str] = {"ok": "good", "neutral": "calm", "caller": "warn", "fault": "bad"}
_SIGNS = {"good": "✓", "calm": "·", "warn": "!", "bad": "✗", "live": "●"}


def tone(outcome: str | None) -> str:
    """How an outcome is coloured, by its verdict: `good`, `calm`, `warn` or `bad`; `live` of a run that goes on."""
    return "live" if outcome == "running" else _TONES[verdict_of(outcome)]


def sign(outcome: str | None) -> str:
    """The outcome's verdict without colour: the glyph of the terminal."""
    return _SIGNS[tone(outcome)]


def visible(value: Any) -> Any:
    """Text from elsewhere with control characters and marks that turn text around written as visible escapes.

    What a template has made is `Markup`, and has been through here.
    """
    return sanitize(value, keep="\n\r\t") if isinstance(value, str) and not isinstance(value, Markup) else value


def words(name: str | None) -> str:
    """`timed_out` as `timed out`."""
    return (name or UNKNOWN).replace("_", " ")


def money(usd: float | None, at_least: bool = False) -> str:
    """US dollars, as in the terminal."""
    return bound(numbers.humanize_usd(usd) or UNKNOWN, at_least and usd is not None)


def bound(text: str, at_least: bool) -> str:
    """A figure, marked where it is a lower bound."""
    return f"≥{text}" if at_least else text


def seconds(duration: float | None) -> str:
    """A duration, as in the terminal."""
    return numbers.humanize_seconds(duration) or UNKNOWN


def count(number: int | None, at_least: bool = False) -> str:
    """A count with all its digits."""
    return UNKNOWN if number is None else bound(f"{number:,}", at_least)


def short_count(number: int | None, at_least: bool = False) -> str:
    """A count where room is little: 1,234 as 1.2k."""
    return UNKNOWN if number is None else bound(numbers.humanize_count(number), at_least)


def ago(when: datetime | None, now: datetime | None = None) -> str:
    """Age: 12s ago, 5m ago, 3h ago, 2d ago; the date where it is longer ago."""
    if when is None:
        return UNKNOWN
    passed = ((now or datetime.now(UTC)) - when).total_seconds()
    if passed < 0 or passed >= 14 * 86_400:
        return when.astimezone().strftime("%d %b %Y") if passed >= 0 else at(when)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        if passed >= size:
            return f"{int(passed // size)}{unit} ago"
    return "now"


def at(when: datetime | None) -> str:
    """Date and time to the second, in this machine's time zone."""
    return UNKNOWN if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def iso(when: datetime | None) -> str:
    return "" if when is None else when.isoformat()


def short_id(run_id: str) -> str:
    """The end of an id: the beginning of ids made at the same time is the same."""
    return run_id[-4:]


def short_class(name: str) -> str:
    """The name of an exception without its module."""
    return name.rpartition(".")[2]


def as_text(value: Any) -> str:
    """Content as it is read: text as it stands, anything else as JSON, on one line if it is short."""
    if isinstance(value, str):
        return value
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= 80 else json.dumps(value, indent=2, ensure_ascii=False)


def brief(text: str) -> str:
    """An error's message on one line, for where it is not shown in full."""
    return one_line(text, 200)


def not_kept(value: Any) -> bool:
    """Whether this is what the content policy `metadata` left of a content."""
    return isinstance(value, dict) and value.keys() == {"type", "length"}


def stack(step: Any) -> str:
    """The traceback of a step that failed."""
    return "\n".join(traceback_lines(step.exception_type, step.error, step.frames, step.chain))


def place(step: Any) -> str:
    """Where a step failed: the innermost place in the application's own code."""
    found = place_of(step.frames)
    return "" if found is None else f"{found.file}:{found.line} in {found.function}"


def score_test(score: Score | ScoreFacts) -> str:
    """Filter, as `--score` takes it, that runs with an equal score pass."""
    value = score.label if score.value is None else score.value
    return f"{score.name}={str(value).lower() if isinstance(value, bool) else value}"


FILTERS = {
    "ago": ago,
    "as_text": as_text,
    "at": at,
    "brief": brief,
    "count": count,
    "iso": iso,
    "money": money,
    "place": place,
    "plural": numbers.counted,
    "score_test": score_test,
    "score_value": numbers.humanize_score,
    "seconds": seconds,
    "short_class": short_class,
    "short_count": short_count,
    "short_id": short_id,
    "sign": sign,
    "stack": stack,
    "tone": tone,
    "words": words,
}
