"""ClickHouse exporter: the events of a fleet in one database, which the commands read like a local log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sidestream.clickhouse.connection import Address, ClickHouseError, classified_errors, connect
from sidestream.clickhouse.schema import CONTENT_DAYS, EVENTS, NUMBER_DAYS, VERSIONS, migrations
from sidestream.diagnostics import info, warn
from sidestream.errors import ConfigurationError, ExporterUnavailable
from sidestream.events import StreamEvent, encode_line
from sidestream.logfiles.limits import MAX_LINE
from sidestream.pipeline.exporter import Exporter
from sidestream.recording.content import NONE, ContentPolicy, apply_policy

INSERT_BYTES = 16 * 1024 * 1024
"""Bytes of rows after which an insert is sent."""

FEW_ROWS = 1_000
"""Inserts of fewer rows are gathered by the server with those of other hosts, so that not each makes a part."""


class ClickHouseExporter(Exporter):
    """Inserts events into ClickHouse, over its HTTP interface.

    An event that is sent twice, by a retry, `sidestream replay` or a second `collect`, counts once. `sidestream runs
    --log clickhouse://…` and the other commands read the tables like a folder of logs.

    Args:
        address: `clickhouse://USER:PASSWORD@HOST:8123/DATABASE`, or `clickhouses://` for TLS. Prefer the environment
            variables `CLICKHOUSE_USER` and `CLICKHOUSE_PASSWORD` for the credentials.
        content: How much of prompts, answers, arguments and results is sent: `none`, `metadata`, `truncated(N)` or
            `full`.
        create: Whether to create and migrate the tables at the start. If False the tables must exist:
            `sidestream schema --clickhouse` prints the statements.
        content_days: Days after which content is deleted, in tables that the exporter creates.
        days: Days after which whole events are deleted, in tables that the exporter creates.
        flush_interval: Seconds to gather events before an insert.
        timeout: Seconds that one request may take.

    Raises:
        ConfigurationError: An option or the address is invalid.
    """

    name = "clickhouse"
    threaded = True
    batch = 4096  # an insert of 256 rows costs the server half as much as one of 4,096

    def __init__(
        self,
        address: str = "clickhouse://127.0.0.1:8123/default",
        *,
        content: str | ContentPolicy = "none",
        create: bool = True,
        content_days: int = CONTENT_DAYS,
        days: int = NUMBER_DAYS,
        flush_interval: float = 1.0,
        timeout: float = 10.0,
    ) -> None:
        for option, value in {
            "content_days": content_days,
            "days": days,
            "flush_interval": flush_interval,
            "timeout": timeout,
        }.items():
            if isinstance(value, bool) or not 0 < value < 1_000_000:
                raise ConfigurationError(f"clickhouse: {option}={value!r}: must be above zero, and below a million")
        self._address = Address.parse(address)
        self.content = ContentPolicy.parse(content)
        self.interval = flush_interval
        self._create = create
        self._days = {"content_days": content_days, "days": days}
        self._timeout = timeout
        self._client: Any = None
        self._failing = False

    def start(self) -> None:
        """Create missing tables and apply migrations, unless `create` is False.

        Raises:
            ConfigurationError: The client library is not installed.
            ExporterUnavailable: The server cannot be reached, or is overloaded.
            ClickHouseError: The server rejects a statement.
        """
        if not self._create:
            return
        try:
            client, address = self._connected(), self._address
            with classified_errors(address):
                create_tables(client, address.database, **self._days)
        except ExporterUnavailable as error:
            raise self._unavailable(error) from error.__cause__

    def export(self, events: Sequence[StreamEvent]) -> None:
        """Insert `events`.

        Raises:
            ExporterUnavailable: The server cannot be reached, is overloaded, or lacks the tables.
            ClickHouseError: The server rejects the rows.
        """
        rows: list[bytes] = []
        size = 0
        for event in events:
            rows.append(_row(event))
            size += len(rows[-1])
            if size >= INSERT_BYTES:
                self._insert(rows)
                rows, size = [], 0
        if rows:
            self._insert(rows)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def after_fork(self) -> None:
        self._client = None
        self._failing = False

    def _insert(self, rows: list[bytes]) -> None:
        try:
            client = self._connected()
            with classified_errors(self._address):
                client.raw_insert(
                    f"{self._address.database}.{EVENTS}",
                    column_names=_COLUMNS,
                    insert_block=b"\n".join(rows),
                    fmt="JSONEachRow",
                    settings={"async_insert": 1, "wait_for_async_insert": 1} if len(rows) < FEW_ROWS else None,
                )
        except ExporterUnavailable as error:
            # Part of the batch may be inserted already; its rows count once when the batch is sent again.
            raise self._unavailable(error) from error.__cause__
        except ClickHouseError as error:
            if not error.is_missing:
                raise
            advice = "`sidestream schema --clickhouse` prints its tables"
            raise self._unavailable(ExporterUnavailable(f"{error}; {advice}")) from error.__cause__
        if self._failing:
            self._failing = False
            info("ClickHouse answers again", address=str(self._address))

    def _connected(self) -> Any:
        if self._client is None:
            self._client = connect(self._address, timeout=self._timeout)
        return self._client

    def _unavailable(self, error: ExporterUnavailable) -> ExporterUnavailable:
        if not self._failing:
            self._failing = True
            warn("ClickHouse cannot be written, keeping events and trying again", reason=str(error))
        return error


def create_tables(client: Any, database: str, *, content_days: int, days: int) -> None:
    """Apply the migrations that `database` lacks."""
    done = 0
    if client.command(f"EXISTS TABLE {database}.{VERSIONS}") == 1:
        done = int(client.command(f"SELECT max(number) FROM {database}.{VERSIONS}"))
    for migration in migrations(database, content_days=content_days, days=days):
        if migration.number > done:
            for statement in migration.statements:
                client.command(statement)
            client.command(f"INSERT INTO {database}.{VERSIONS} (number) VALUES ({migration.number})")


# --- from events to rows -------------------------------------------------------------------------------------------


class _Row(msgspec.Struct):
    run_id: str
    seq: int
    event_type: str
    timestamp: str
    offset: float
    agent_name: str
    numbers: str
    content: str


_COLUMNS = list(_Row.__struct_fields__)
_encode = msgspec.json.Encoder().encode


def _row(event: StreamEvent) -> bytes:
    line = encode_line(event)
    bare = apply_policy(event, NONE, None)
    numbers = line if bare is event else encode_line(bare)
    if len(line) > MAX_LINE:  # readers reject longer lines
        line = numbers
    when = event.timestamp
    return _encode(
        _Row(
            run_id=_utf8(event.run_id),
            seq=event.seq,
            event_type=str(event.event_type),
            timestamp=f"{int(when.timestamp())}.{when.microsecond:06}",
            offset=event.offset,
            agent_name=_utf8(event.agent_name or ""),
            numbers=numbers[:-1].decode(),
            content="" if line == numbers else line[:-1].decode(),
        )
    )


def _utf8(name: str) -> str:
    """`name` with lone surrogates escaped, as in the encoded event."""
    return name.encode("utf-8", "backslashreplace").decode()
