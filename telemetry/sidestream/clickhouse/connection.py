"""Connection to ClickHouse by its HTTP interface and the official client, and what its errors mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from sidestream.errors import ConfigurationError, ExporterUnavailable, SidestreamError

from .schema import identifier

SCHEMES = {"clickhouse": False, "http": False, "https": True, "clickhouses": True}
"""Beginnings of an address, and whether TLS is used."""
PASSING = frozenset({159, 164, 202, 203, 209, 210, 241, 242, 252, 285, 286, 319, 394, 425, 439, 999})
"""Codes of errors that pass: timeouts, too many queries or parts, memory, read-only replicas, Keeper."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a ClickHouse server and its database are."""

    host: str
    port: int
    database: str
    secure: bool
    user: str
    password: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that is written `clickhouse://USER:PASSWORD@HOST:PORT/DATABASE`; `clickhouses://` for TLS.

        What is not given comes from `CLICKHOUSE_USER` and `CLICKHOUSE_PASSWORD`, then from ClickHouse's defaults.
        Raises `ConfigurationError` for what is no address; it never repeats a password.
        """
        wanted = "write clickhouse://HOST:8123/DATABASE, or clickhouses:// for TLS"
        try:
            parts = urlsplit(text if "://" in text else f"clickhouse://{text}")
            port = parts.port
        except ValueError:
            raise ConfigurationError(f"clickhouse: no address: {wanted}") from None
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ConfigurationError(f"clickhouse: no address: {wanted}")
        if unknown := [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]:
            raise ConfigurationError(f"clickhouse: unknown option {unknown[0]!r} in the address: {wanted}")
        secure = SCHEMES[parts.scheme]
        return cls(
            host=parts.hostname,
            port=port or (8443 if secure else 8123),
            database=identifier(parts.path.strip("/") or "default"),
            secure=secure,
            user=unquote(parts.username or "") or os.environ.get("CLICKHOUSE_USER") or "default",
            password=unquote(parts.password or "") or os.environ.get("CLICKHOUSE_PASSWORD") or "",
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"clickhouse{'s' if self.secure else ''}://{host}:{self.port}/{self.database}"


def connect(address: Address, *, timeout: float = 30.0) -> Any:
    """A client of the official library.

    Raises `ConfigurationError` where it is not installed, and what `told` raises.
    """
    try:
        import clickhouse_connect
    except ImportError:
        raise ConfigurationError(
            "clickhouse: its client is not installed: pip install 'sidestream[clickhouse]'"
        ) from None
    with told(address):
        return clickhouse_connect.get_client(
            host=address.host,
            port=address.port,
            username=address.user,
            password=address.password,
            secure=address.secure,
            connect_timeout=10,
            send_receive_timeout=timeout,
            query_retries=0,
            autogenerate_session_id=False,
            show_clickhouse_errors=True,
        )


class ClickHouseError(SidestreamError):
    """What ClickHouse refused, in its own words."""

    code = 0
    """ClickHouse's number of the error."""

    @property
    def is_missing(self) -> bool:
        """Whether the table or the database is not there."""
        return self.code in (60, 81)


@contextmanager
def told(address: Address) -> Iterator[None]:
    """Raises `ExporterUnavailable` for a failure that passes, `ClickHouseError` for any other."""
    import urllib3
    from clickhouse_connect.driver.exceptions import ClickHouseError as Failed
    from clickhouse_connect.driver.exceptions import DatabaseError

    try:
        yield
    except DatabaseError as error:
        code = getattr(error, "code", None)
        message = _short(error, address)
        if code is None or code in PASSING:
            raise ExporterUnavailable(f"{address}: {message}") from error
        refused = ClickHouseError(f"{address}: {message}")
        refused.code = code
        raise refused from error
    except (Failed, urllib3.exceptions.HTTPError, OSError) as error:
        raise ExporterUnavailable(f"{address}: {_short(error, address)}") from error


def _short(error: Exception, address: Address) -> str:
    text = " ".join(str(error).split())
    if address.password:
        text = text.replace(address.password, "***")
    return text[:300]
