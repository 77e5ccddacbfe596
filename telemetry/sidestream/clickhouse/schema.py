"""Tables in ClickHouse for the log of many machines, as numbered migrations.

`sidestream_events` has one row for each event, with the run and the sequence number as its key: an event that a retry,
a replay or a second collector sends again is stored once after ClickHouse has merged, and readers query with FINAL.
Prompts, answers and other content are in a column of their own, which expires sooner than the numbers.
`sidestream_runs` has one row for each run, filled by a materialized view; its aggregates count a repeated event once.
"""

from __future__ import annotations

import re

import msgspec

from sidestream.errors import ConfigurationError

EVENTS, RUNS, VERSIONS = "sidestream_events", "sidestream_runs", "sidestream_migrations"
CONTENT_DAYS, NUMBER_DAYS = 30, 400


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """Migration from one version of the tables to the next."""

    number: int
    title: str
    statements: list[str]


def migrations(database: str, *, content_days: int = CONTENT_DAYS, days: int = NUMBER_DAYS) -> list[Migration]:
    """All migrations up to the present tables, in order. A published migration is never changed.

    Raises `ConfigurationError` if `database` is not a valid name.
    """
    name = identifier(database)
    return [
        Migration(
            number=1,
            title="events, runs and the view that fills them",
            statements=[
                statement.format(db=name, content_days=int(content_days), days=int(days)).strip()
                for statement in (_VERSIONS, _EVENTS, _RUNS, _VIEW)
            ],
        )
    ]


def as_sql(steps: list[Migration], database: str) -> str:
    """SQL of `steps`, for a client that accepts several statements. Applying a step again changes nothing."""
    text = ""
    for step in steps:
        applied = f"INSERT INTO {identifier(database)}.{VERSIONS} (number) VALUES ({step.number})"
        text += f"-- {step.number}: {step.title}\n"
        text += "".join(f"{statement};\n\n" for statement in [*step.statements, applied])
    return text


def identifier(name: str) -> str:
    """`name` unchanged, if valid as the name of a database. Raises `ConfigurationError` otherwise."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,100}", name):
        raise ConfigurationError(f"clickhouse: database {name!r}: letters, digits and _ only")
    return name


_VERSIONS = f"""
CREATE TABLE IF NOT EXISTS {{db}}.{VERSIONS} (
    number UInt32,
    applied DateTime DEFAULT now()
) ENGINE = ReplacingMergeTree ORDER BY number
"""

_EVENTS = f"""
CREATE TABLE IF NOT EXISTS {{db}}.{EVENTS} (
    run_id String CODEC(ZSTD(1)),
    seq UInt64 CODEC(Delta, ZSTD(1)),
    event_type LowCardinality(String),
    timestamp DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    offset Float64 CODEC(ZSTD(1)),
    agent_name LowCardinality(String),
    numbers String CODEC(ZSTD(3)) COMMENT 'the event as JSON, without what people and models wrote',
    content String CODEC(ZSTD(3)) TTL toDateTime(timestamp) + INTERVAL {{content_days}} DAY
        COMMENT 'the event as JSON with it, where the exporter may send it',
    INDEX by_time timestamp TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (run_id, seq)
TTL toDateTime(timestamp) + INTERVAL {{days}} DAY
"""

_RUNS = f"""
CREATE TABLE IF NOT EXISTS {{db}}.{RUNS} (
    run_id String CODEC(ZSTD(1)),
    first SimpleAggregateFunction(min, DateTime64(6, 'UTC')),
    last SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    started SimpleAggregateFunction(max, Nullable(DateTime64(6, 'UTC'))),
    root_run_id SimpleAggregateFunction(max, String),
    parent_run_id SimpleAggregateFunction(max, String),
    conversation_id SimpleAggregateFunction(max, String),
    trace_id SimpleAggregateFunction(max, String),
    agent_name SimpleAggregateFunction(max, String),
    models SimpleAggregateFunction(groupUniqArrayArray, Array(String)),
    tools SimpleAggregateFunction(groupUniqArrayArray, Array(String)),
    tags SimpleAggregateFunction(max, String) COMMENT 'a JSON object',
    outcome SimpleAggregateFunction(max, String) COMMENT 'empty until the run has ended',
    duration_seconds SimpleAggregateFunction(max, Nullable(Float64)),
    cost_usd SimpleAggregateFunction(max, Nullable(Float64)) COMMENT 'with sub-agents',
    total_tokens SimpleAggregateFunction(max, Nullable(UInt64)) COMMENT 'with sub-agents',
    time_to_first_token_seconds SimpleAggregateFunction(max, Nullable(Float64)) COMMENT 'of the first request',
    INDEX by_start started TYPE minmax GRANULARITY 1,
    INDEX by_root root_run_id TYPE bloom_filter GRANULARITY 1,
    INDEX by_conversation conversation_id TYPE bloom_filter GRANULARITY 1,
    INDEX by_trace trace_id TYPE bloom_filter GRANULARITY 1
) ENGINE = AggregatingMergeTree
ORDER BY run_id
TTL toDateTime(last) + INTERVAL {{days}} DAY
"""

_VIEW = f"""
CREATE MATERIALIZED VIEW IF NOT EXISTS {{db}}.{RUNS}_from_events TO {{db}}.{RUNS} AS
SELECT
    run_id,
    min(timestamp) AS first,
    max(timestamp) AS last,
    maxIf(toNullable(timestamp), event_type = 'agent_start') AS started,
    max(JSONExtractString(data, 'root_run_id')) AS root_run_id,
    max(if(event_type = 'agent_start', JSONExtractString(data, 'parent_run_id'), '')) AS parent_run_id,
    max(if(event_type = 'agent_start', JSONExtractString(data, 'conversation_id'), '')) AS conversation_id,
    max(if(event_type = 'agent_start', JSONExtractString(data, 'trace_id'), '')) AS trace_id,
    max(agent_name) AS agent_name,
    groupUniqArrayIf(JSONExtractString(data, 'model'), event_type IN ('agent_start', 'llm_start')
        AND JSONExtractString(data, 'model') != '') AS models,
    groupUniqArrayIf(JSONExtractString(data, 'tool_name'), event_type = 'tool_start') AS tools,
    max(if(event_type = 'agent_start', JSONExtractRaw(data, 'tags'), '')) AS tags,
    max(if(event_type = 'agent_end', JSONExtractString(data, 'outcome'), '')) AS outcome,
    maxIf(JSONExtract(data, 'duration_seconds', 'Nullable(Float64)'), event_type = 'agent_end') AS duration_seconds,
    maxIf(ifNull(JSONExtract(data, 'cost_usd_with_children', 'Nullable(Float64)'),
        JSONExtract(data, 'cost_usd', 'Nullable(Float64)')), event_type = 'agent_end') AS cost_usd,
    maxIf(multiIf(
        JSONHas(data, 'usage_with_children'),
        JSONExtract(data, 'usage_with_children', 'input_tokens', 'Nullable(UInt64)')
            + JSONExtract(data, 'usage_with_children', 'output_tokens', 'Nullable(UInt64)'),
        JSONHas(data, 'usage'),
        JSONExtract(data, 'usage', 'input_tokens', 'Nullable(UInt64)')
            + JSONExtract(data, 'usage', 'output_tokens', 'Nullable(UInt64)'),
        JSONExtract(data, 'total_tokens', 'Nullable(UInt64)')), event_type = 'agent_end') AS total_tokens,
    maxIf(arrayMin(mapValues(JSONExtract(data, 'time_to_first_token_seconds', 'Map(String, Nullable(Float64))'))),
        event_type = 'llm_end' AND JSONExtractUInt(data, 'request') = 1
        AND JSONHas(data, 'time_to_first_token_seconds')) AS time_to_first_token_seconds
FROM (
    SELECT *, JSONExtractRaw(numbers, 'data') AS data FROM {{db}}.{EVENTS}
    WHERE event_type NOT IN ('llm_chunk', 'score')
)
GROUP BY run_id
"""
