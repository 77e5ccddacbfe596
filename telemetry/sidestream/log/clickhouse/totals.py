"""Totals of measured runs. Statistics are summed up by ClickHouse; for runs over time, it returns a row for each run.

For statistics, each measured run becomes several items, one for each of its groups (agent, hour …), requests and tool
calls. The engine sums up the items of each group, so that the client receives one row for each group, whatever the
number of runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

import msgspec

from sidestream.events import Usage
from sidestream.log.runs.filters import Filter
from sidestream.log.runs.quantiles import SHARES, Quantiles, quantiles_of, ranks
from sidestream.log.runs.summary import TOKENS, rounded_usd
from sidestream.log.runs.totals import Group, ScoreSums, Statistics, arranged

from .measures import fact, get, measured
from .queries import ROWS, RUN, Conditions, pattern, taken_by

_SCALE_BITS = 100
_SCALE = 2**_SCALE_BITS
"""Factor by which costs and seconds become whole numbers, whose sum is exact in any order, as that of `math.fsum`.
Only what a value of less than 1e-14 has below 1e-30 is cut off.
"""
_LARGEST = 1e30  # value that is summed; a larger one counts as this

_KINDS = {
    "total": "NULL",
    "agent": "nullIf(agent, '')",
    "hour": "concat(substring(toString(started), 1, 10), 'T', substring(toString(started), 12, 2), ':00Z')",
    "day": "substring(toString(started), 1, 10)",
}
"""SQL of the names of the groups that hold every run, by kind."""

_TYPES = {
    "outcome": "String",
    "duration": "Nullable(Float64)",
    "first_token": "Nullable(Float64)",
    "usage": f"Tuple({', '.join(f'{name} Nullable(Int64)' for name in TOKENS)})",
    "total_tokens": "Nullable(Int64)",
    "cost": "Nullable(Float64)",
    **dict.fromkeys(
        ("unpriced", "partial", "unmeasured", "unended", "requests", "tool_calls", "retries", "missing", "scored"),
        "Int64",
    ),
}
"""Figures of an item, with their SQL types."""
_ABSENT = {"String": "''", "Int64": "0", _TYPES["usage"]: f"tuple({', '.join(['NULL'] * len(TOKENS))})"}

_OF_RUN = {name: name for name in _TYPES} | {
    "duration": "if(outcome = 'running', NULL, duration)",  # not final
    "usage": f"tuple({', '.join(TOKENS)})",
    "unended": "is_unended",
    "missing": "toInt64(last_seq) + 1 - events",
    "scored": "notEmpty(scores)",
}
_OF_REQUEST = {
    name: fact("each", name)
    for name in ("outcome", "duration", "first_token", "usage", "cost", "unpriced", "partial", "unmeasured")
} | {
    "total_tokens": f"if({fact('each', 'has_usage')}, "
    f"ifNull({fact('each', 'usage', 'input_tokens')}, 0) "
    f"+ ifNull({fact('each', 'usage', 'output_tokens')}, 0), NULL)"
}
_OF_CALL = {"outcome": get("each", "outcome"), "duration": get("each", "duration_seconds")}


def _item(kind: str, name: str, figures: dict[str, str]) -> str:
    """SQL tuple of a group's kind and name, and the figures to add to the group."""
    values = [f"CAST({figures.get(each) or _ABSENT.get(type_, 'NULL')}, '{type_}')" for each, type_ in _TYPES.items()]
    return f"tuple({kind}, CAST({name}, 'Nullable(String)'), {', '.join(values)})"


def _groups_of_run(tags: Collection[str], its: Conditions) -> str:
    """SQL array of the groups that a run is in, as pairs of kind and name."""
    found = [f"tuple('{kind}', CAST({name}, 'Nullable(String)'))" for kind, name in _KINDS.items()]
    for tag in tags:
        name, tagged = its.bind(tag), get("start", "tags")
        value = f"if(mapContains({tagged}, {name}), {tagged}[{name}], NULL)"
        found.append(f"tuple({its.bind(_of_tag(tag))}, CAST({value}, 'Nullable(String)'))")
    attempt = get("start", "attempt")
    tried = f"tuple('attempt', CAST(toString({attempt}), 'Nullable(String)'))"
    return f"arrayConcat([{', '.join(found)}], arrayFilter(each -> {attempt} IS NOT NULL, [{tried}]))"


def _of_tag(tag: str) -> str:
    return f"tag:{tag}"


def sql_exact_sum(value: str) -> str:
    """SQL text of the sum times `_SCALE`; NULL without a value.

    The whole number is shifted from the bits of the `Float64` (a sign, 11 of the exponent, 52 of the fraction), because
    `toInt256` keeps twenty digits only.
    """
    bounded = f"if(abs({value}) < {_LARGEST!r}, {value}, sign({value}) * {_LARGEST!r})"
    exponent = f"toInt32(bitAnd(bitShiftRight(bits, 52), 2047)) - {1075 - _SCALE_BITS}"
    whole = f"toInt256(bitOr(bitAnd(bits, {2**52 - 1}), {2**52}))"
    shifted = f"bitShiftRight(bitShiftLeft({whole}, greatest({exponent}, 0)), least(greatest(-({exponent}), 0), 255))"
    signed = f"if(bitTest(bits, 63), -{shifted}, {shifted})"
    return f"toString(sum(arrayMap(bits -> {signed}, [reinterpretAsUInt64({bounded})])[1]))"


def _sum_of_text(text: str | None) -> float | None:
    return None if text is None else int(text) / _SCALE


def sql_values_at_ranks(values: str) -> str:
    """SQL array of the sorted `values` at the ranks of each quantile, and of the largest value."""
    places = []
    for share in SHARES:
        below = f"toInt64(floor({share} * (length({values}) - 1)))"
        places += [f"{below} + 1", f"least({below} + 2, length({values}))"]
    return f"[{', '.join(f'{values}[greatest({place}, 1)]' for place in [*places, f'length({values})'])}]"


# --- queries -------------------------------------------------------------------------------------------------------


class RunsMeasured:
    """Query for the runs that match a filter, measured by the engine, with its parameters."""

    def __init__(self, where: Filter | None, events: str, runs: str) -> None:
        """`events` and `runs` are the names of the tables."""
        taken = taken_by(where, events)
        chosen = f"run_id IN (SELECT run_id FROM ({RUN.format(runs=runs)}) WHERE {taken})" if taken.parts else "1"
        self.conditions = rest = Conditions(taken.values)
        if where is not None:  # conditions that `taken_by` leaves out for runs without an end
            if where.outcomes:
                rest.add("outcome IN %(outcomes)s", outcomes=tuple(where.outcomes))
            if where.min_cost is not None:
                rest.add("whole_cost >= %(cost)s", cost=where.min_cost)
            if where.slower is not None:
                rest.add("duration >= %(seconds)s", seconds=where.slower)
            if where.models:
                rest.add("arrayExists(name -> match(name, %(pattern)s), all_models)", pattern=pattern(where.models))
        self.sql = f"FROM ({measured(events, chosen)}) WHERE {rest}"

    def groups(self, tags: Collection[str]) -> str:
        """Query for a `_GroupRow` of each group."""
        run = _item(get("key", 1), get("key", 2), _OF_RUN)
        request = _item("'model'", f"nullIf({fact('each', 'model')}, '')", _OF_REQUEST)
        call = _item("'tool'", get("each", "tool_name"), _OF_CALL)
        items = (
            f"arrayConcat(arrayMap(key -> {run}, {_groups_of_run(tags, self.conditions)}), "
            f"arrayMap(each -> {request}, answered), arrayMap(each -> {call}, calls))"
        )
        figure = {name: get("item", place) for place, name in enumerate(_TYPES, 3)}
        sums = [f"sum({get(figure['usage'], name)})" for name in TOKENS]
        counts = [f"sum({figure[name]})" for name, type_ in _TYPES.items() if type_ == "Int64"]
        return (
            f"SELECT kind, name, number, outcomes, "
            f"{sql_values_at_ranks('durations')}, length(durations), duration_sum, "
            f"{sql_values_at_ranks('firsts')}, length(firsts), first_sum, usages, tokens, cost, counts "
            f"FROM (SELECT {get('item', 1)} AS kind, {get('item', 2)} AS name, count() AS number, "
            f"sumMap([{figure['outcome']}], [toUInt64(1)]) AS outcomes, "
            f"arraySort(groupArray({figure['duration']})) AS durations, "
            f"{sql_exact_sum(figure['duration'])} AS duration_sum, "
            f"arraySort(groupArray({figure['first_token']})) AS firsts, "
            f"{sql_exact_sum(figure['first_token'])} AS first_sum, "
            f"[{', '.join(sums)}] AS usages, sum({figure['total_tokens']}) AS tokens, "
            f"{sql_exact_sum(figure['cost'])} AS cost, [{', '.join(counts)}] AS counts "
            f"FROM (SELECT arrayJoin({items}) AS item {self.sql}) GROUP BY kind, name) {ROWS}"
        )

    def scores(self, tags: Collection[str]) -> str:
        """Query for a `_ScoreRow` of each name of a score in each group."""
        value, label = get("score", 4), get("score", 5)
        return (
            f"SELECT {get('key', 1)}, {get('key', 2)}, {get('score', 3)} AS called, count(), count({value}), "
            f"{sql_exact_sum(value)}, min({value}), max({value}), "
            f"sumMap(if({label} IS NULL, [], [assumeNotNull({label})]), if({label} IS NULL, [], [toUInt64(1)])) "
            f"FROM (SELECT arrayJoin({_groups_of_run(tags, self.conditions)}) AS key, arrayJoin(scores) AS score "
            f"{self.sql}) GROUP BY key, called {ROWS}"
        )

    def roots(self) -> str:
        """Query for the root run of each run."""
        root = get("start", "root_run_id")
        return f"SELECT if({root} = '', run_id, {root}) {self.sql}"

    def over_time(self, *, with_sub_agents: bool) -> str:
        """Query for the figures of `TimedRun` of each run."""
        cost, incomplete = ("whole_cost", " OR incomplete > 0") if with_sub_agents else ("cost", "")
        bound = f"is_unended OR partial > 0 OR unmeasured > 0 OR unpriced > 0{incomplete}"
        return (
            f"SELECT toUnixTimestamp64Micro(started) / 1000000, outcome, {cost}, {bound}, "
            f"if(outcome = 'running', NULL, duration) {self.sql} {ROWS}"
        )


# --- results -------------------------------------------------------------------------------------------------------


class _GroupRow(msgspec.Struct, array_like=True):
    kind: str
    name: str | None
    number: int
    outcomes: tuple[list[str], list[int]]
    durations: list[float]
    duration_count: int
    duration_sum: str | None
    firsts: list[float]
    first_count: int
    first_sum: str | None
    usages: list[int | None]
    tokens: int | None
    cost: str | None
    counts: list[int]


class _ScoreRow(msgspec.Struct, array_like=True):
    kind: str
    name: str | None
    called: str
    number: int
    values: int
    sum: str | None
    least: float | None
    most: float | None
    labels: tuple[list[str], list[int]]


_group_rows = msgspec.json.Decoder(_GroupRow, strict=False)
_score_rows = msgspec.json.Decoder(_ScoreRow, strict=False)
_Scores = dict[tuple[str, str | None], dict[str, ScoreSums]]


def has_scores(groups: bytes) -> bool:
    """Whether a run has a score, by the result of `RunsMeasured.groups`."""
    return any(row.counts[-1] for row in _group_rows.decode_lines(groups) if row.kind == "total")


def statistics_of(groups: bytes, scores: bytes, tags: Collection[str]) -> Statistics:
    """Statistics from the results of `RunsMeasured.groups` and `RunsMeasured.scores`."""
    of_scores: _Scores = defaultdict(dict)
    for each in sorted(_score_rows.decode_lines(scores), key=lambda each: each.called):
        of_scores[each.kind, each.name][each.called] = _score_sums(each)
    found: dict[str, list[Group]] = defaultdict(list)
    missing = 0
    for row in _group_rows.decode_lines(groups):
        found[row.kind].append(_group(row, of_scores))
        if row.kind == "total":
            missing = row.counts[-2]
    return arranged(
        total=found["total"][0] if found["total"] else Group(name=None, count=0, outcomes={}),
        agents=found["agent"],
        models=found["model"],
        tools=found["tool"],
        hours=found["hour"],
        days=found["day"],
        attempts=found["attempt"],
        by_tag={tag: found[_of_tag(tag)] for tag in tags},
        missing_events=missing,
    )


def _group(row: _GroupRow, scores: _Scores) -> Group:
    usage = {name: count for name, count in zip(TOKENS, row.usages, strict=True) if count is not None}
    unpriced, partial, unmeasured, unended, requests, tool_calls, retries, _, _ = row.counts
    is_run = row.kind not in ("model", "tool")
    cost = _sum_of_text(row.cost)
    return Group(
        name=row.name,
        count=row.number,
        outcomes=dict(sorted(zip(*row.outcomes, strict=True))),
        usage=Usage(**usage) if usage else None,  # type: ignore[arg-type]
        total_tokens=row.tokens,
        cost_usd=None if cost is None else rounded_usd(cost),
        unpriced_requests=unpriced,
        partial_requests=partial,
        unmeasured_requests=unmeasured,
        unended_runs=unended,
        duration=quantiles_from(row.duration_count, row.duration_sum, row.durations),
        time_to_first_token=quantiles_from(row.first_count, row.first_sum, row.firsts),
        scores=scores.get((row.kind, row.name), {}),
        requests=requests if is_run else None,
        tool_calls=tool_calls if is_run else None,
        retries=retries if is_run else None,
    )


def quantiles_from(count: int, total: str | None, values: list[float]) -> Quantiles | None:
    """Distribution from a count, `sql_exact_sum` and `sql_values_at_ranks`; None if no value is known."""
    if not count:
        return None
    places = [*(rank for share in SHARES for rank in ranks(share, count)), count - 1]
    known = dict(zip(places, values, strict=True))
    return quantiles_of(count, _sum_of_text(total) or 0.0, known.__getitem__)


def _score_sums(row: _ScoreRow) -> ScoreSums:
    total = _sum_of_text(row.sum)
    return ScoreSums(
        count=row.number,
        mean=None if total is None else total / row.values,
        min=row.least,
        max=row.most,
        labels=dict(sorted(zip(*row.labels, strict=True))),
    )
