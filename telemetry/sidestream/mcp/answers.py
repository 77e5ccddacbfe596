"""Answers sized for a context window: shortened texts, pages with a cursor, and a maximum size."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from sidestream.errors import ConfigurationError
from sidestream.events import Json, Usage
from sidestream.events.bounds import Figure
from sidestream.log import Change, Group, RunLog, RunSummary, Step

ANSWER = 24_000
"""Maximum characters of the items on one page."""
TEXT = 300
"""Maximum characters of a text in a list."""

Answer = dict[str, Any]
_T = TypeVar("_T")


def as_text(answer: Answer) -> str:
    """`answer` as JSON."""
    return msgspec.json.encode(answer).decode()


def shortened(value: Json, limit: int = TEXT) -> str | None:
    """`value` as text of at most `limit` characters, with a note of how many were cut; None if not in the log."""
    if value is None:
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= limit else f"{text[:limit]} [… {len(text) - limit:,} more characters]"


def known(**facts: Any) -> Answer:
    """`facts` without unknown and empty values."""
    return {name: value for name, value in facts.items() if value is not None and value != [] and value != {}}


def moment(when: datetime | None) -> str | None:
    """UTC time to the second: `2026-11-20T09:30:00Z`."""
    return None if when is None else when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def bounded(value: float | None, at_least: bool) -> float | str | None:
    """Number, or text for a lower bound: `at least 5`."""
    return f"at least {value}" if value is not None and at_least else value


def page(
    items: Iterable[_T], make: Callable[[_T], Answer], limit: int, name: str, mark: Callable[[_T], object]
) -> Answer:
    """Page of `items` under `name`, bounded by `limit` and the size of an answer, with a cursor if there are more.

    `mark` returns the cursor after an item. An item that exceeds the size is alone on its page.
    """
    made: list[Answer] = []
    size, last = 0, None
    for item in items:
        if len(made) >= limit or (made and size > ANSWER):
            return {name: made, "next_cursor": str(last)}
        one = make(item)
        length = len(as_text(one))
        if made and size + length > ANSWER:
            return {name: made, "next_cursor": str(last)}
        made.append(one)
        size, last = size + length, mark(item)
    return {name: made}


def numbered_page(
    items: Iterable[_T], make: Callable[[_T], Answer], limit: int, name: str, cursor: str | None
) -> Answer:
    """Page of `items` whose cursor is the number of the last item on the previous page, 1 for the first.

    Raises `ConfigurationError` for a cursor that is not a number.
    """
    rest = itertools.islice(enumerate(items, 1), number(cursor), None)
    return page(rest, lambda item: make(item[1]), limit, name, lambda item: item[0])


def number(cursor: str | None) -> int:
    """Offset that a numeric cursor stands for; 0 for None. Raises `ConfigurationError` for any other text."""
    if cursor is None:
        return 0
    if not cursor.isdecimal() or len(cursor) > 12:
        raise ConfigurationError(f"cursor {cursor!r}: give the next_cursor of an answer, or none")
    return int(cursor)


# --- runs ----------------------------------------------------------------------------------------------------------


def run_line(run: RunSummary) -> Answer:
    """Run as an item of a list."""
    return known(
        run=run.run_id,
        agent=run.agent_name,
        outcome=run.outcome,
        exception=run.exception_type if not run.success else None,
        started=moment(run.started),
        seconds=_seconds(run.duration_seconds),
        model=run.model,
        requests=run.requests,
        tools=run.tools,
        retries=run.retries or None,
        sub_agents=run.sub_agents or None,
        parent_run=run.parent_run_id,
        conversation=run.conversation_id,
        tags=run.tags,
        attempt=run.attempt,
        attempt_of=run.attempt_of,
        scores=run.score_values,
        tokens=_figure(run.whole_tokens, run, "usage"),
        cost_usd=_figure(run.whole_cost_usd, run, "cost"),
    )


def _figure(value: float | None, run: RunSummary, figure: Figure) -> float | str | None:
    """Figure of a run including sub-agents."""
    return bounded(value, run.is_lower_bound(figure, with_children=True))


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def steps(run: RunLog) -> Iterator[Answer]:
    """Steps of a run and its sub-agents, in order."""
    for depth, owner, step in run.walk():
        yield step_line(depth, owner if owner is not run else None, step)


def step_line(depth: int, owner: RunLog | None, step: Step) -> Answer:
    """Step as an item of a list: time, duration, outcome, and shortened content."""
    answer = " ".join(part.text for part in step.parts if part.kind == "text" and part.text)
    return known(
        seq=step.seq,
        depth=depth or None,
        run=None if owner is None else owner.summary.run_id,
        kind=step.kind,
        name=step.name,
        request=step.request,
        at=_seconds(step.start),
        seconds=_seconds(step.duration_seconds),
        first_token_seconds=_seconds(step.time_to_first_token_seconds),
        outcome=step.outcome if step.outcome not in ("ok", "completed") else None,
        finish_reason=step.finish_reason if step.finish_reason not in ("stop", "tool_call") else None,
        exception=step.exception_type,
        error=shortened(step.error),
        usage=_usage(step.usage),
        cost_usd=step.cost_usd,
        input=shortened(step.input) if step.kind != "request" else None,
        output=shortened(step.output),
        answer=shortened(answer) if answer else None,
        calls=[part.tool_name for part in step.parts if part.kind == "tool_call"],
    )


def _usage(usage: Usage | None) -> Answer | None:
    if usage is None:
        return None
    return known(input=usage.input_tokens, output=usage.output_tokens, cached=usage.cache_read_tokens)


def group_line(group: Group) -> Answer:
    """Group of the statistics as an item of a list."""

    times, first = group.duration, group.time_to_first_token
    return known(
        name=group.name,
        count=group.count,
        outcomes=group.outcomes,
        tokens=bounded(group.total_tokens, group.is_lower_bound("usage")),
        cost_usd=bounded(group.cost_usd, group.is_lower_bound("cost")),
        scores={
            name: known(runs=each.count, mean=each.mean, labels=each.labels) for name, each in group.scores.items()
        },
        seconds_p50=round(times.p50, 3) if times else None,
        seconds_p95=round(times.p95, 3) if times else None,
        first_token_p50=round(first.p50, 3) if first else None,
    )


def change_line(change: Change) -> Answer:
    """Difference between two runs or steps."""
    return known(what=change.what, a=_brief(change.a), b=_brief(change.b)) | (
        {} if change.a is not None and change.b is not None else {"only": "b" if change.a is None else "a"}
    )


def _brief(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) or value is None else shortened(value, 1000)


def short_texts(value: Any, limit: int) -> Any:
    """`value` with every text in it cut to `limit` characters."""
    match value:
        case str():
            return shortened(value, limit)
        case dict():
            return {name: short_texts(item, limit) for name, item in value.items()}
        case list():
            return [short_texts(item, limit) for item in value]
        case _:
            return value
