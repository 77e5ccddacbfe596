"""Template filters that format numbers, times and texts. Unknown values are a dash, never a zero."""

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
    """CSS class of an outcome, by its verdict: `good`, `calm`, `warn` or `bad`; `live` for a run in progress."""
    return "live" if outcome == "running" else _TONES[verdict_of(outcome)]


def sign(outcome: str | None) -> str:
    """Glyph of an outcome's verdict, as in the terminal, so that colour is not the only mark."""
    return _SIGNS[tone(outcome)]


def visible(value: Any) -> Any:
    """`value` with control and bidirectional characters as visible escapes; applied to every template expression.

    `Markup`, whose parts have been escaped already, and values other than text are returned unchanged.
    """
    return sanitize(value, keep="\n\r\t") if isinstance(value, str) and not isinstance(value, Markup) else value


def words(name: str | None) -> str:
    """Name with spaces for underscores: `timed out` for `timed_out`."""
    return (name or UNKNOWN).replace("_", " ")


def money(usd: float | None, at_least: bool = False) -> str:
    """US dollars in the terminal's format."""
    return bound(numbers.humanize_usd(usd) or UNKNOWN, at_least and usd is not None)


def bound(text: str, at_least: bool) -> str:
    """Number as text, with `≥` for a lower bound."""
    return f"≥{text}" if at_least else text


def seconds(duration: float | None) -> str:
    """Duration in the terminal's format."""
    return numbers.humanize_seconds(duration) or UNKNOWN


def count(number: int | None, at_least: bool = False) -> str:
    """Count with all digits: 1,234."""
    return UNKNOWN if number is None else bound(f"{number:,}", at_least)


def short_count(number: int | None, at_least: bool = False) -> str:
    """Count in short form: 1.2k for 1,234."""
    return UNKNOWN if number is None else bound(numbers.humanize_count(number), at_least)


def ago(when: datetime | None, now: datetime | None = None) -> str:
    """Age: 12s ago, 5m ago, 3h ago, 2d ago; the date for 14 days and more."""
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
    """Last four characters of an id; ids are time-ordered, so runs of the same time share the first ones."""
    return run_id[-4:]


def short_class(name: str) -> str:
    """Exception name without its module."""
    return name.rpartition(".")[2]


def as_text(value: Any) -> str:
    """Content as text: strings unchanged, any other value as JSON, on one line if short."""
    if isinstance(value, str):
        return value
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= 80 else json.dumps(value, indent=2, ensure_ascii=False)


def brief(text: str) -> str:
    """Error message on one line, shortened to 200 characters."""
    return one_line(text, 200)


def not_kept(value: Any) -> bool:
    """Whether the content policy `metadata` replaced the content by its type and length."""
    return isinstance(value, dict) and value.keys() == {"type", "length"}


def stack(step: Any) -> str:
    """Traceback of a failed step."""
    return "\n".join(traceback_lines(step.exception_type, step.error, step.frames, step.chain))


def place(step: Any) -> str:
    """Location of a failure: the innermost frame in the application's own code; empty if unknown."""
    found = place_of(step.frames)
    return "" if found is None else f"{found.file}:{found.line} in {found.function}"


def score_test(score: Score | ScoreFacts) -> str:
    """Filter for runs with an equal score, in the syntax of `--score`."""
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
