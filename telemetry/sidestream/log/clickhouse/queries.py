"""SQL for queries to a log in ClickHouse: conditions of a filter, and sort order."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from fnmatch import translate
from typing import Any

from sidestream.log.index.parts import UNKNOWN_MODEL
from sidestream.log.runs.filters import Filter, Order
from sidestream.log.runs.score_tests import ScoreTest

NUMBER_COLUMNS = {
    "started": "started_at",
    "duration": "duration_seconds",
    "cost": "cost_usd",
    "tokens": "total_tokens",
    "first_token": "time_to_first_token_seconds",
}
"""Column for each sort order."""

_UNENDED = {"lost", "running"}

ROWS = "FORMAT JSONCompactEachRow"
"""Format of results: one JSON array for each row."""


def model_of(model: str, response_model: str) -> str:
    """SQL for the model of a request: if the request announced none, the model that answered."""
    return f"if({model} = '{UNKNOWN_MODEL}' AND {response_model} != '', {response_model}, {model})"


def score_number(event: str) -> str:
    """SQL for the value of a score as a number, out of the JSON text `event`; NULL without a value."""
    return (
        f"if(JSONType({event}, 'data', 'value') = 'Bool', "
        f"toNullable(toFloat64(JSONExtractBool({event}, 'data', 'value'))), "
        f"JSONExtract({event}, 'data', 'value', 'Nullable(Float64)'))"
    )


RUN = """
SELECT run_id, min(first) AS began, max(last) AS seen, max(started) AS begun, ifNull(begun, began) AS started_at,
    max(agent_name) AS agent, max(parent_run_id) AS parent, max(conversation_id) AS conversation,
    groupUniqArrayArray(models) AS all_models, groupUniqArrayArray(tools) AS all_tools, max(tags) AS all_tags,
    max(outcome) AS ended_as, max(duration_seconds) AS duration_seconds, max(cost_usd) AS cost_usd,
    max(total_tokens) AS total_tokens,
    max(time_to_first_token_seconds) AS time_to_first_token_seconds
FROM {runs}
GROUP BY run_id
"""
"""Subquery with one row for each run, correct before and after merges. Aliases differ from column names where a
condition reads both.
"""


CALLED = f"""
SELECT run_id FROM {{runs}} GROUP BY run_id
HAVING %(name)s != '' AND (startsWith(lowerUTF8(run_id), %(name)s) OR endsWith(lowerUTF8(run_id), %(name)s)
    OR max(trace_id) = %(name)s)
ORDER BY run_id
{ROWS}
"""
"""Runs of the trace `name`, and runs whose id begins or ends with `name`, which is in lower case."""

MODEL = model_of(*(f"JSONExtractString(numbers, 'data', '{name}')" for name in ("model", "response_model")))
"""Model of an event of a request."""

NAMES = f"""
SELECT (SELECT groupUniqArray(agent_name) FROM {{runs}}),
    arrayConcat((SELECT arrayFilter(name -> name != '{UNKNOWN_MODEL}', groupUniqArrayArray(models)) FROM {{runs}}), (
        SELECT groupUniqArrayArray(if(notEmpty(answered), answered, asked)) FROM (
            SELECT groupUniqArrayIf(model, event_type = 'llm_start') AS asked,
                groupUniqArrayIf(model, event_type = 'llm_end' AND model != '') AS answered
            FROM (SELECT run_id, event_type, {MODEL} AS model FROM {{events}})
            WHERE run_id IN (SELECT run_id FROM {{runs}} WHERE has(models, '{UNKNOWN_MODEL}')) GROUP BY run_id
        )
    )),
    (SELECT groupUniqArrayArray(tools) FROM {{runs}})
{ROWS}
"""
"""Names of agents, models and tools. A run whose request announced no model has the models of its answers."""


ROOTS = """
SELECT if(max(root_run_id) = '', run_id, max(root_run_id)) FROM {runs}
WHERE run_id IN (SELECT run_id FROM ({run}) WHERE {taken}) GROUP BY run_id
"""
"""Root runs of the trees that hold the runs of `run` which meet the condition `taken`."""


class Conditions:
    """SQL conditions with separate parameters."""

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        """No condition yet. Parameters are added to `values`, which other conditions of the same query may share."""
        self.parts: list[str] = []
        self.values: dict[str, Any] = {} if values is None else values

    def bind(self, value: Any) -> str:
        """Add a parameter with `value`, and return its placeholder."""
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f"%({name})s"

    def add(self, condition: str, **values: Any) -> None:
        """Add a condition whose `%(name)s` placeholders are bound to `values`."""
        for name, value in values.items():
            condition = condition.replace(f"%({name})s", self.bind(value))
        self.parts.append(f"({condition})")

    def __str__(self) -> str:
        return " AND ".join(self.parts) or "1"


def taken_by(where: Filter | None, events: str) -> Conditions:
    """Conditions on rows of `RUN` that every run matching `where` fulfils; of the ended runs, no other run does.

    `events` is the table of events. Runs without an end are not tested for cost, duration, `lost` and `running`:
    see `needs_events`.
    """
    found = Conditions()
    if where is None:
        return found
    if where.since is not None:
        found.add("started_at >= toDateTime64(%(since)s, 6, 'UTC')", since=moment(where.since))
    if where.until is not None:
        found.add("started_at < toDateTime64(%(until)s, 6, 'UTC')", until=moment(where.until))
    if where.agents:
        found.add("match(agent, %(pattern)s)", pattern=pattern(where.agents))
    if where.conversations:
        found.add("match(conversation, %(pattern)s)", pattern=pattern(where.conversations))
    if where.models:
        answered = f"SELECT run_id FROM {events} WHERE event_type = 'llm_end' AND match({MODEL}, %(pattern)s)"
        found.add(
            "arrayExists(name -> match(name, %(pattern)s), all_models) "
            f"OR (has(all_models, '{UNKNOWN_MODEL}') AND run_id IN ({answered}))",
            pattern=pattern(where.models),
        )
    if where.tools:
        found.add("arrayExists(name -> match(name, %(pattern)s), all_tools)", pattern=pattern(where.tools))
    for name, value in where.tags.items():
        if value is None:
            found.add("JSONHas(all_tags, %(name)s)", name=name)
        else:
            found.add("JSONExtractString(all_tags, %(name)s) = %(value)s", name=name, value=value)
    if where.outcomes:
        unended = "ended_as = '' OR " if _UNENDED.intersection(where.outcomes) else ""
        found.add(f"{unended}ended_as IN %(outcomes)s", outcomes=tuple(where.outcomes))
    if where.min_cost is not None:
        found.add("ended_as = '' OR cost_usd >= %(cost)s", cost=where.min_cost)
    if where.slower is not None:
        found.add("ended_as = '' OR duration_seconds >= %(seconds)s", seconds=where.slower)
    if where.outermost:
        found.add("parent = ''")
    begun = f"run_id IN (SELECT run_id FROM {events} WHERE event_type = 'agent_start' AND "
    if where.attempts_of:  # the table of runs has no such column
        first = "JSONExtractString(numbers, 'data', 'attempt_of')"
        named = f"name != '' AND (startsWith({first}, name) OR endsWith({first}, name))"
        found.add(f"{begun}arrayExists(name -> {named}, %(names)s))", names=list(where.attempts_of))
    if where.min_attempt is not None:
        found.add(f"{begun}JSONExtractUInt(numbers, 'data', 'attempt') >= %(number)s)", number=where.min_attempt)
    for test in where.scores:
        condition, values = scored(test, events)
        found.add(condition, **values)
    return found


def scored(test: ScoreTest, events: str) -> tuple[str, dict[str, Any]]:
    """Condition that the run's latest score of a name passes `test`, with its parameters."""
    # As a tuple, because argMax skips NULL, and the latest score may have no value.
    latest = (
        f"argMax(tuple({score_number('numbers')}, JSONExtractString(numbers, 'data', 'label')), tuple(timestamp, seq))"
    )
    either = []
    if test.number is not None:
        either.append(f"ifNull(tupleElement({latest}, 1) {test.comparison} %(number)s, 0)")
    if test.label is not None:
        either.append(f"tupleElement({latest}, 2) = %(label)s")
    having = f"HAVING {' OR '.join(either)}" if either else ""
    condition = (
        f"run_id IN (SELECT run_id FROM {events} WHERE event_type = 'score' "
        f"AND JSONExtractString(numbers, 'data', 'name') = %(name)s GROUP BY run_id {having})"
    )
    values = {"name": test.name, "number": test.number, "label": test.label}
    return condition, {name: value for name, value in values.items() if value is not None}


def needs_events(where: Filter | None, order: Order) -> bool:
    """Whether `where` or `order` needs figures of runs without an end, which only their events have."""
    return order.by in ("duration", "cost", "tokens") or (
        where is not None
        and (where.min_cost is not None or where.slower is not None or bool(_UNENDED.intersection(where.outcomes)))
    )


def sort_key(order: Order) -> str:
    """Expression over rows of `RUN` for the number that `order` sorts by."""
    column = NUMBER_COLUMNS[order.by]
    return f"toUnixTimestamp64Micro({column}) / 1000000" if order.by == "started" else f"toFloat64({column})"


def in_order(order: Order) -> str:
    """`ORDER BY` clause for rows of `RUN`: unknown values last, ties by id."""
    column = NUMBER_COLUMNS[order.by]
    return f"ORDER BY isNull({column}), {column} {'ASC' if order.ascending else 'DESC'}, run_id"


def moment(when: datetime) -> str:
    """`when` in ClickHouse's format."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def pattern(names: Iterable[str]) -> str:
    """RE2 regular expression for names in which `*` and `?` stand for any text and any character.

    RE2 has no atomic groups. Python uses them for speed alone: the same names match without.
    """
    each = [translate(name).removesuffix(r"\Z").removesuffix(r"\z").replace("(?>.*?", "(?:.*?") for name in names]
    return "^(?:" + "|".join(each) + ")$"
