"""Filter of runs by time, agent, model, tool, conversation, outcome, tags, scores, cost and duration; sort order."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, get_args

from sidestream.errors import ConfigurationError
from sidestream.events import RunOutcome

from .score_tests import ScoreTest

if TYPE_CHECKING:
    from .summary import RunSummary

OUTCOMES: tuple[str, ...] = (*get_args(RunOutcome), "lost", "running")
"""Outcomes of runs, as readers see them."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Filter of runs. Each condition is optional; a run has to match all."""

    since: datetime | None = None
    """Earliest start."""
    until: datetime | None = None
    """Starts before this time."""
    agents: tuple[str, ...] = ()
    """Names of agents; a run matches any of them. `*` and `?` stand for any text and any character."""
    models: tuple[str, ...] = ()
    """Names of models, as patterns; a run matches if it requested any of them."""
    outcomes: tuple[str, ...] = ()
    """Outcomes, out of `OUTCOMES`; a run matches any of them."""
    tags: Mapping[str, str | None] = field(default_factory=dict)
    """Required tags with their values; None for any value."""
    conversations: tuple[str, ...] = ()
    """Ids of conversations, as patterns; a run matches any of them."""
    tools: tuple[str, ...] = ()
    """Names of tools, as patterns; a run matches if it called any of them."""
    min_cost: float | None = None
    """Minimum cost in US dollars, including sub-agents. A run of unknown cost does not match."""
    slower: float | None = None
    """Minimum duration in seconds."""
    outermost: bool = False
    """Outermost runs only, without sub-agents."""
    attempts_of: tuple[str, ...] = ()
    """Ids of first attempts (`sidecar.attempts()`), or their beginnings or ends; a run matches any of them."""
    scores: tuple[ScoreTest, ...] = ()
    """Tests of the run's scores; a run has to pass all."""
    min_attempt: int | None = None
    """Minimum number of the attempt: 2 for retried tasks."""

    @classmethod
    def parse(
        cls,
        *,
        since: str | None = None,
        until: str | None = None,
        agents: Iterable[str] = (),
        models: Iterable[str] = (),
        outcomes: Iterable[str] = (),
        tags: Iterable[str] = (),
        conversations: Iterable[str] = (),
        tools: Iterable[str] = (),
        min_cost: float | str | None = None,
        slower: float | str | None = None,
        outermost: bool = False,
        attempts_of: Iterable[str] = (),
        min_attempt: int | None = None,
        scores: Iterable[str] = (),
        now: datetime | None = None,
    ) -> Filter:
        """Parse the command-line form of a filter.

        Times are as for `parse_time`, tags `name=value` or `name`, `min_cost` is `0.05` or `$0.05`, `slower` is as for
        `parse_duration`. Raises `ConfigurationError` for invalid text.
        """
        outcomes = tuple(outcomes)
        if unknown := [outcome for outcome in outcomes if outcome not in OUTCOMES]:
            raise ConfigurationError(f"outcome {unknown[0]!r}: choose from {', '.join(OUTCOMES)}")
        wanted: dict[str, str | None] = {}
        for tag in tags:
            name, given, value = tag.partition("=")
            if not name:
                raise ConfigurationError(f"tag {tag!r}: write name=value, or name for any value")
            wanted[name] = value if given else None
        return cls(
            since=None if since is None else parse_time(since, now),
            until=None if until is None else parse_time(until, now),
            agents=tuple(agents),
            models=tuple(models),
            outcomes=outcomes,
            tags=wanted,
            conversations=tuple(conversations),
            tools=tuple(tools),
            min_cost=None if min_cost is None else _parse_cost(min_cost),
            slower=None if slower is None else parse_duration(slower),
            outermost=outermost,
            attempts_of=tuple(attempts_of),
            min_attempt=min_attempt,
            scores=tuple(ScoreTest.parse(test) for test in scores),
        )

    def matches(self, run: RunSummary) -> bool:
        """Whether `run` matches. A run without a known start matches no time condition."""
        if (self.since is not None or self.until is not None) and run.started is None:
            return False
        return (
            (self.since is None or (run.started is not None and run.started >= self.since))
            and (self.until is None or (run.started is not None and run.started < self.until))
            and (not self.agents or matches_any([run.agent_name or ""], self.agents))
            and (not self.models or matches_any([run.model or "", *run.models], self.models))
            and (not self.outcomes or run.outcome in self.outcomes)
            and (not self.tools or matches_any(run.tools, self.tools))
            and (not self.conversations or matches_any([run.conversation_id or ""], self.conversations))
            and (self.min_cost is None or _at_least(run.whole_cost_usd, self.min_cost))
            and (self.slower is None or _at_least(run.duration_seconds, self.slower))
            and (not self.outermost or run.parent_run_id is None)
            and (not self.attempts_of or is_named(run.attempt_of, self.attempts_of))
            and (self.min_attempt is None or _at_least(run.attempt, self.min_attempt))
            and all(test.matches(run.scores) for test in self.scores)
            and has_tags(run.tags, self.tags)
        )


def matches_any(names: Iterable[str], patterns: tuple[str, ...]) -> bool:
    """Whether any of `names` matches any of `patterns`."""
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def is_named(run_id: str | None, names: tuple[str, ...]) -> bool:
    """Whether `run_id` equals, begins with or ends with any of `names`."""
    return run_id is not None and any(name and (run_id.startswith(name) or run_id.endswith(name)) for name in names)


def has_tags(tags: Mapping[str, str], wanted: Mapping[str, str | None]) -> bool:
    """Whether `tags` include all the `wanted` tags."""
    return all(name in tags and (value is None or tags[name] == value) for name, value in wanted.items())


def _at_least(value: float | None, limit: float) -> bool:
    return value is not None and value >= limit


def _parse_cost(text: float | str) -> float:
    try:
        cost = float(text.strip().removeprefix("$")) if isinstance(text, str) else float(text)
    except ValueError:
        cost = math.nan
    if not math.isfinite(cost) or cost < 0:
        raise ConfigurationError(f"cost {text!r}: write US dollars, such as 0.05")
    return cost


def parse_duration(text: float | str) -> float:
    """Seconds of a duration: `500ms`, `2s`, `1.5m`, `1h30m`, or a number of seconds.

    Raises `ConfigurationError` for anything else.
    """
    seconds = math.nan
    written = text.strip() if isinstance(text, str) else str(text)
    if re.fullmatch(r"\d+(\.\d+)?ms", written):
        seconds = float(written[:-2]) / 1000
    elif re.fullmatch(r"(\d+(\.\d+)?[smhdw])+", written):
        found = re.findall(r"([\d.]+)([smhdw])", written)
        seconds = math.fsum(float(number) * _SECONDS[unit] for number, unit in found)
    elif re.fullmatch(r"\d+(\.\d+)?", written):
        seconds = float(written)
    if not math.isfinite(seconds):
        raise ConfigurationError(f"duration {text!r}: write seconds such as 2.5, or 500ms, 30s, 5m, 1h30m")
    return seconds


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """UTC time of an age (`90s`, `30m`, `2h`, `7d`, `1w`, `1h30m`), a date or a time.

    Dates and times are ISO 8601, in the local time zone if they have no offset; also `today` and `yesterday`.
    Raises `ConfigurationError` for anything else.
    """
    now = now or datetime.now(UTC)
    text = text.strip()
    if re.fullmatch(r"(\d+(\.\d+)?[smhdw])+", text):
        parts = re.findall(r"([\d.]+)([smhdw])", text)
        try:
            return now - sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())
        except OverflowError:
            raise ConfigurationError(f"time {text!r}: out of range") from None
    midnight = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    days_ago = {"today": 0, "yesterday": 1}.get(text.lower())
    try:
        when = datetime.fromisoformat(text) if days_ago is None else midnight - timedelta(days=days_ago)
        return when.astimezone(UTC)  # a time without an offset is local
    except (ValueError, OverflowError, OSError):
        raise ConfigurationError(
            f"time {text!r}: write an age such as 30m, 2h or 7d, a date such as 2026-11-20, a time such as "
            f"2026-11-20T09:30, today or yesterday"
        ) from None


# --- order ---------------------------------------------------------------------------------------------------------

_SORTS: dict[str, Callable[[RunSummary], float | None]] = {
    "started": lambda run: run.started.timestamp() if run.started is not None else None,
    "duration": lambda run: run.duration_seconds,
    "cost": lambda run: run.whole_cost_usd,
    "tokens": lambda run: run.whole_tokens,
    "first_token": lambda run: run.time_to_first_token_seconds,
}
SORTS: tuple[str, ...] = tuple(_SORTS)
"""Names of sort orders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Sort order of runs, descending by default. Unknown values come last."""

    by: str = "started"
    """Sort key, out of `SORTS`."""
    ascending: bool = False

    @classmethod
    def parse(cls, text: str) -> Order:
        """Parse a sort order: `cost` for descending, `-cost` for ascending.

        Raises `ConfigurationError` if the name is not in `SORTS`.
        """
        by = text.strip().lower().replace("-", "_").lstrip("_")
        if by not in _SORTS:
            raise ConfigurationError(f"sort {text!r}: choose from {', '.join(SORTS)}; -cost is the smallest first")
        return cls(by=by, ascending=text.strip().startswith("-"))

    def sorted(self, runs: Iterable[RunSummary]) -> list[RunSummary]:
        """`runs` in this order; ties by id."""
        return sorted(runs, key=self.key)

    def key(self, run: RunSummary) -> tuple[bool, float, str]:
        """Sort key of `run`, for an ascending sort."""
        return self.place(_SORTS[self.by](run), run.run_id)

    def place(self, value: float | None, run_id: str) -> tuple[bool, float, str]:
        """Sort key of a run whose figure is `value`."""
        return (value is None, 0.0 if value is None else value if self.ascending else -value, run_id)
