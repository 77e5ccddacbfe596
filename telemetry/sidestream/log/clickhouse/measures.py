"""SQL that measures each run in ClickHouse: the figures that `summary_of` computes from the events of a run.

events         one row for each event, its JSON decoded by type
  └─ gathered  one row for each run: its start, its end, arrays of its requests, tool calls and scores
       └─ measured  one row for each run, with the figures of a `RunSummary`
"""

from __future__ import annotations

from sidestream.log.index.parts import UNKNOWN_MODEL
from sidestream.log.runs.summary import TOKENS

from .queries import model_of, score_number

SILENCE_SECONDS = 900.0
"""Seconds without an event after which a run without an end counts as lost: its process cannot be checked from here."""


def get(value: str, *path: str | int) -> str:
    """SQL for an element of nested tuples, such as `get("ended_with", "usage", "input_tokens")`."""
    for name in path:
        value = f"tupleElement({value}, {name!r})"
    return value


# --- one event -----------------------------------------------------------------------------------------------------

_USAGE = f"usage Tuple({', '.join(f'{name} Nullable(Int64)' for name in TOKENS)})"
_DATA = {
    "agent_start": "model String, parent_run_id String, root_run_id String, tags Map(String, String), "
    "attempt Nullable(Int64)",
    "agent_end": "outcome String, duration_seconds Nullable(Float64), cost_usd Nullable(Float64), "
    "cost_usd_with_children Nullable(Float64), total_tokens Nullable(Int64), total_iterations Nullable(Int64), "
    "tool_calls Nullable(Int64), retries Nullable(Int64), unpriced_requests Int64, partial_requests Int64, "
    f"unmeasured_requests Int64, incomplete_sub_agents Int64, {_USAGE}",
    "llm_start": "model String",
    "llm_end": "request Int64, outcome String, duration_seconds Nullable(Float64), model String, "
    "response_model String, usage_source String, cost_usd Nullable(Float64), unpriced Bool, chunks Int64, "
    f"time_to_first_token_seconds Map(String, Float64), {_USAGE}",
    "tool_end": "tool_name String, outcome String, duration_seconds Nullable(Float64)",
    "score": "name String, label Nullable(String)",
}
"""Fields read from each type of event."""

_COLUMNS = ",\n    ".join(
    f"if(event_type = '{kind}', numbers, '') AS json_{kind}, "
    f"JSONExtract(json_{kind}, 'data', 'Tuple({fields})') AS {kind}"
    for kind, fields in _DATA.items()
)
_COST = "JSONExtract(each, 'cost_usd', 'Nullable(Float64)')"
_EVENTS = f"""
SELECT run_id, seq, event_type, timestamp, offset, agent_name,
    event_type != 'score' AS is_own,
    event_type NOT IN ('score', 'llm_chunk') AS is_line,
    {_COLUMNS},
    JSONType(json_agent_end, 'data', 'usage') = 'Object' AS end_has_usage,
    JSONType(json_llm_end, 'data', 'usage') = 'Object' AS has_usage,
    JSONExtractArrayRaw(json_llm_end, 'data', 'failed_attempts') AS attempts,
    arrayMap(each -> assumeNotNull({_COST}), arrayFilter(each -> {_COST} IS NOT NULL, attempts)) AS attempt_costs,
    {get("llm_end", "unpriced")}
        + arrayCount(each -> JSONType(each, 'usage') = 'Object' AND {_COST} IS NULL, attempts) AS unpriced,
    {score_number("json_score")} AS score_value
FROM {{events}} FINAL
WHERE {{chosen}}
"""

# --- one run -------------------------------------------------------------------------------------------------------

_FIRST_TOKENS = get("llm_end", "time_to_first_token_seconds")
_REQUEST = {
    "seq": "seq",
    "request": get("llm_end", "request"),
    "model": model_of(get("llm_end", "model"), get("llm_end", "response_model")),
    "outcome": get("llm_end", "outcome"),
    "duration": get("llm_end", "duration_seconds"),
    "first_token": f"if(empty({_FIRST_TOKENS}), NULL, arrayMin(mapValues({_FIRST_TOKENS})))",
    "usage": get("llm_end", "usage"),
    "has_usage": "has_usage",
    "cost": f"if({get('llm_end', 'cost_usd')} IS NULL AND empty(attempt_costs), NULL, "
    f"ifNull({get('llm_end', 'cost_usd')}, 0) + arraySum(attempt_costs))",
    "unpriced": "toInt64(unpriced)",
    "partial": f"toInt64({get('llm_end', 'usage_source')} = 'partial')",
    "unmeasured": f"toInt64(NOT has_usage AND ({get('llm_end', 'outcome')} IN ('ok', 'retry') "
    f"OR {get('llm_end', 'chunks')} != 0))",
}
"""Facts of one model request, as `RequestFacts` has them."""


def fact(each: str, name: str, *path: str) -> str:
    """SQL for the fact `name` of the request `each`, an element of the column `answered`."""
    return get(get(each, 1 + list(_REQUEST).index(name)), *path)


_GATHERED = f"""
SELECT run_id,
    countIf(is_own) AS events,
    maxIf(seq, is_own) AS last_seq,
    maxIf(offset, is_own) AS last_offset,
    maxIf(timestamp, is_own) AS seen,
    minIf(timestamp, is_line) AS first,
    argMinIf(agent_name, seq, is_line AND agent_name != '') AS agent,
    countIf(event_type = 'agent_start') > 0 AS has_start,
    argMinIf(tuple(timestamp, agent_start), seq, event_type = 'agent_start') AS first_start,
    countIf(event_type = 'agent_end') > 0 AS ended,
    argMinIf(tuple(end_has_usage, agent_end), seq, event_type = 'agent_end') AS first_end,
    countIf(event_type = 'llm_start') AS requests_begun,
    arraySort(groupArrayIf(tuple(seq, {get("llm_start", "model")}), event_type = 'llm_start')) AS asked,
    arraySort(each -> tupleElement(each, 1), groupArrayIf(tuple({", ".join(_REQUEST.values())}),
        event_type = 'llm_end')) AS answered,
    countIf(event_type = 'tool_start') AS tools_begun,
    groupArrayIf(tool_end, event_type = 'tool_end') AS calls,
    countIf(event_type = 'retry') AS retries_begun,
    arraySort(groupArrayIf(tuple(timestamp, seq, {get("score", "name")}, score_value, {get("score", "label")}),
        event_type = 'score')) AS every_score
FROM ({_EVENTS})
GROUP BY run_id
HAVING countIf(is_line) > 0
"""


def _end(*path: str) -> str:
    return get("first_end", 2, *path)


def _sum_of(name: str, *path: str) -> str:
    """Sum over the requests of a run; NULL if no request has the figure."""
    figure = fact("each", name, *path)
    known = f"arrayExists(each -> {figure} IS NOT NULL, answered)"
    return f"if({known}, arraySum(each -> ifNull({figure}, 0), answered), NULL)"


def _count_of(reported: str, counted: str) -> str:
    return f"if(ended AND {_end(reported)} IS NOT NULL, {_end(reported)}, {counted})"


_TOKENS = ",\n    ".join(f"if(ended, {_end('usage', name)}, {_sum_of('usage', name)}) AS {name}" for name in TOKENS)
_ANY_TOKENS = " OR ".join(f"{name} IS NOT NULL" for name in TOKENS)
_MEASURED = f"""
SELECT *,
    {get("first_start", 2)} AS start,
    if(has_start, {get("first_start", 1)}, first) AS started,
    multiIf(ended, {_end("outcome")}, now64(6) - seen < {SILENCE_SECONDS}, 'running', 'lost') AS outcome,
    outcome IN ('running', 'lost') AS is_unended,
    if(ended, {_end("duration_seconds")}, last_offset) AS duration,
    {_TOKENS},
    if(ended, {get("first_end", 1)}, arrayCount(each -> {fact("each", "has_usage")}, answered) = 1 OR {_ANY_TOKENS})
        AS has_usage,
    multiIf(has_usage, ifNull(input_tokens, 0) + ifNull(output_tokens, 0), ended, {_end("total_tokens")}, NULL)
        AS total_tokens,
    if(ended, {_end("cost_usd")}, round({_sum_of("cost")}, 12)) AS cost,
    if(ended, ifNull({_end("cost_usd_with_children")}, cost), cost) AS whole_cost,
    if(ended, {_end("unpriced_requests")}, arraySum(each -> {fact("each", "unpriced")}, answered)) AS unpriced,
    if(ended, {_end("partial_requests")}, arraySum(each -> {fact("each", "partial")}, answered)) AS partial,
    if(ended, {_end("unmeasured_requests")}, arraySum(each -> {fact("each", "unmeasured")}, answered)) AS unmeasured,
    if(ended, {_end("incomplete_sub_agents")}, 0) AS incomplete,
    {_count_of("total_iterations", "requests_begun")} AS requests,
    {_count_of("tool_calls", "tools_begun")} AS tool_calls,
    {_count_of("retries", "retries_begun")} AS retries,
    if(notEmpty(answered) AND {fact("answered[1]", "request")} = 1, {fact("answered[1]", "first_token")}, NULL)
        AS first_token,
    arrayMap(each -> tupleElement(each, 2), asked) AS asked_models,
    arrayFilter(each -> each != '', arrayMap(each -> {fact("each", "model")}, answered)) AS answered_models,
    if(has(asked_models, '{UNKNOWN_MODEL}') AND notEmpty(answered_models), answered_models, asked_models) AS models,
    arrayConcat([if({get("start", "model")} != '', {get("start", "model")}, models[1])], models) AS all_models,
    arrayMap(name -> arrayLast(each -> tupleElement(each, 3) = name, every_score),
        arrayDistinct(arrayMap(each -> tupleElement(each, 3), every_score))) AS scores
FROM ({_GATHERED})
"""


def measured(events: str, chosen: str) -> str:
    """Query with one row for each run of the table `events` whose rows meet the condition `chosen`."""
    return _MEASURED.replace("{events}", events).replace("{chosen}", chosen)
