"""Export of a log as a table of runs or events: CSV from the standard library, Parquet from DuckDB."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from sidestream.errors import ConfigurationError
from sidestream.events import Usage
from sidestream.log import Filter, RunSummary, read, runs

from .options import Unread, no_runs

Row = dict[str, Any]

RUN_COLUMNS = {
    "run_id": "VARCHAR",
    "agent_name": "VARCHAR",
    "outcome": "VARCHAR",
    "success": "BOOLEAN",
    "started": "TIMESTAMPTZ",
    "ended": "TIMESTAMPTZ",
    "duration_seconds": "DOUBLE",
    "time_to_first_token_seconds": "DOUBLE",
    "model": "VARCHAR",
    "provider": "VARCHAR",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "cache_read_tokens": "BIGINT",
    "cache_write_tokens": "BIGINT",
    "reasoning_tokens": "BIGINT",
    "total_tokens": "BIGINT",
    "cost_usd": "DOUBLE",
    "usage_is_lower_bound": "BOOLEAN",
    "cost_is_lower_bound": "BOOLEAN",
    "unpriced_requests": "BIGINT",
    "partial_requests": "BIGINT",
    "unmeasured_requests": "BIGINT",
    "requests": "BIGINT",
    "tool_calls": "BIGINT",
    "failed_tool_calls": "BIGINT",
    "retries": "BIGINT",
    "sub_agents": "BIGINT",
    "errors": "BIGINT",
    "exception_type": "VARCHAR",
    "stalls": "BIGINT",
    "parent_run_id": "VARCHAR",
    "root_run_id": "VARCHAR",
    "conversation_id": "VARCHAR",
    "trace_id": "VARCHAR",
    "tags": "JSON",
    "attempt": "BIGINT",
    "attempt_of": "VARCHAR",
    "scores": "JSON",
    "host": "VARCHAR",
    "pid": "BIGINT",
    "events": "BIGINT",
    "missing": "BIGINT",
}
"""Columns of the table of runs with their SQL types, named as in `sidestream runs --json`."""

EVENT_COLUMNS = {
    "event_type": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "offset": "DOUBLE",
    "run_id": "VARCHAR",
    "seq": "BIGINT",
    "agent_name": "VARCHAR",
    "data": "JSON",
}
"""Columns of the table of events with their SQL types: the envelope, and the payload as JSON."""

LARGEST = 256 * 1024 * 1024
"""Maximum size of an event that DuckDB reads, in bytes."""


# --- rows ----------------------------------------------------------------------------------------------------------


def run_rows(log: Sequence[str], where: Filter, unread: Unread) -> Iterator[Row]:
    """Runs of a log as rows of `RUN_COLUMNS`. Raises `typer.Exit` if there are none."""
    run = None
    for run in runs(log, where, on_problem=unread):
        usage = run.usage or Usage()
        yield {name: _cell(run, usage, name) for name in RUN_COLUMNS}
    if run is None:
        unread.report()
        raise no_runs(where)


def _cell(run: RunSummary, usage: Usage, name: str) -> Any:
    if name == "provider":
        return run.providers[0] if run.providers else None
    if name == "usage_is_lower_bound":
        return run.is_lower_bound("usage")
    if name == "cost_is_lower_bound":
        return run.is_lower_bound("cost")
    if name == "scores":
        return run.score_values or None
    return getattr(run, name) if name in run.__struct_fields__ else getattr(usage, name)


def event_rows(log: Sequence[str], where: Filter, unread: Unread) -> Iterator[Row]:
    """Events of a log as rows of `EVENT_COLUMNS`. Raises `typer.Exit` if there are none."""
    wanted = None if where == Filter() else {run.run_id for run in runs(log, where)}
    empty = True
    for event in read(log, on_problem=unread):
        if wanted is None or event.run_id in wanted:
            empty = False
            yield {name: getattr(event, name) for name in EVENT_COLUMNS}
    if empty:
        unread.report()
        raise no_runs(where)


# --- files ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Temporary file, readable by its owner alone, that replaces `target` on success."""
    part = target.with_name(f"{target.name}.part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        yield part
        os.replace(part, target)
    except OSError as error:
        raise ConfigurationError(f"export: {target} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def write_csv(rows: Iterable[Row], columns: Mapping[str, str], target: Path) -> int:
    """Write `rows` with a header to the CSV file `target`; returns their number."""
    count = 0
    with new_file(target) as part, open(part, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for row in rows:
            table.writerow([_as_text(row[name]) for name in columns])
            count += 1
    return count


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""Beginnings of text that spreadsheets run as a formula. A leading apostrophe prevents that."""


def _as_text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return f"'{value}" if value.startswith(_FORMULA) else value
        case datetime():
            return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
        case _:
            return msgspec.json.encode(value).decode()


def write_parquet(rows: Iterable[Row], columns: Mapping[str, str], target: Path) -> int:
    """Write `rows` to the Parquet file `target`; returns their number.

    Raises `ConfigurationError` if DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError:
        raise ConfigurationError("export: Parquet needs DuckDB: pip install 'sidestream[parquet]'") from None
    lines = target.with_name(f"{target.name}.rows")
    encode = msgspec.json.Encoder().encode_lines
    count = 0
    try:
        with new_file(lines) as part, open(part, "wb") as file:
            for row in rows:
                file.write(encode([row]))
                count += 1
        with new_file(target) as part, duckdb.connect() as database:
            types = ", ".join(f"{_quoted(name)}: {_quoted(kind)}" for name, kind in columns.items())
            source = f"read_ndjson({_quoted(str(lines))}, columns={{{types}}}, maximum_object_size={LARGEST})"
            # a temporary file would not have the mode 0600
            options = "FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false"
            database.execute(f"COPY (SELECT * FROM {source}) TO {_quoted(str(part))} ({options})")
    finally:
        lines.unlink(missing_ok=True)
    return count


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
