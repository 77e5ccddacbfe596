"""Filter of runs: by time, agent, model, outcome and tags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, get_args

from sidestream.errors import ConfigurationError
from sidestream.events import RunOutcome

if TYPE_CHECKING:
    from .summary import RunSummary

OUTCOMES: tuple[str, ...] = (*get_args(RunOutcome), "lost", "running")
"""How a run can have ended, as readers see it."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a run must be to be taken. Whatever is not given takes every run."""

    since: datetime | None = None
    """Runs that began then or later."""
    until: datetime | None = None
    """Runs that began before."""
    agents: tuple[str, ...] = ()
    """Names of agents, any of them; `*` and `?` stand for any text and any character."""
    models: tuple[str, ...] = ()
    """Names of models, likewise: a run is taken if it asked any of them."""
    outcomes: tuple[str, ...] = ()
    """Any of `OUTCOMES`."""
    tags: Mapping[str, str | None] = field(default_factory=dict)
    """All of these tags; None for any value."""

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
        now: datetime | None = None,
    ) -> Filter:
        """The filter that is written so: times as `parse_time` takes them, tags as `name=value` or `name`.

        Raises `ConfigurationError` for what cannot be meant.
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
        )

    def matches(self, run: RunSummary) -> bool:
        """Whether `run` is taken. A run of which no time is known is of no time at all."""
        if (self.since is not None or self.until is not None) and run.started is None:
            return False
        return (
            (self.since is None or (run.started is not None and run.started >= self.since))
            and (self.until is None or (run.started is not None and run.started < self.until))
            and (not self.agents or _any([run.agent_name or ""], self.agents))
            and (not self.models or _any([run.model or "", *run.models], self.models))
            and (not self.outcomes or run.outcome in self.outcomes)
            and all(
                name in run.tags and (value is None or run.tags[name] == value) for name, value in self.tags.items()
            )
        )


def _any(names: list[str], patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """The time that `text` means: an age (`90s`, `30m`, `2h`, `7d`, `1w`, `1h30m`), a date or a time.

    Dates and times are ISO 8601; without an offset they are of this machine's time zone. So are `today`, `yesterday`.
    Raises `ConfigurationError` for anything else.
    """
    now = now or datetime.now(UTC)
    text = text.strip()
    if re.fullmatch(r"(\d+(\.\d+)?[smhdw])+", text):
        parts = re.findall(r"([\d.]+)([smhdw])", text)
        try:
            return now - sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())
        except OverflowError:
            raise ConfigurationError(f"time {text!r}: that is longer ago than there is time") from None
    midnight = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    days_ago = {"today": 0, "yesterday": 1}.get(text.lower())
    try:
        when = datetime.fromisoformat(text) if days_ago is None else midnight - timedelta(days=days_ago)
        return when.astimezone(UTC)  # a naive time is taken for one of this machine's zone
    except (ValueError, OverflowError, OSError):
        raise ConfigurationError(
            f"time {text!r}: write an age such as 30m, 2h or 7d, a date such as 2026-11-20, a time such as "
            f"2026-11-20T09:30, today or yesterday"
        ) from None
