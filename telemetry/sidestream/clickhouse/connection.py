"""Connection to ClickHouse over HTTP, by the official client, and classification of its errors."""

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
"""URL schemes, and whether each uses TLS."""
PASSING = frozenset({159, 164, 202, 203, 209, 210, 241, 242, 252, 285, 286, 319, 394, 425, 439, 999})
"""Codes of temporary errors: timeouts, too many queries or parts, memory, read-only replicas, Keeper."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Address of a ClickHouse server and database, with credentials."""

    host: str
    port: int
    database: str
    secure: bool
    user: str
    password: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse `clickhouse://USER:PASSWORD@HOST:PORT/DATABASE`; `clickhouses://` for TLS.

        User and password default to `CLICKHOUSE_USER` and `CLICKHOUSE_PASSWORD`, then to ClickHouse's own defaults.
        Raises `ConfigurationError` if `text` is not an address; the message never repeats a password.
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
    """Create a client of the official library.

    Raises `ConfigurationError` if the library is not installed, and the errors of `classified_errors`.
    """
    try:
        import clickhouse_connect
    except ImportError:
        raise ConfigurationError(
            "clickhouse: its client is not installed: pip install 'sidestream[clickhouse]'"
        ) from None
    with classified_errors(address):
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
    """Error that ClickHouse reported, with its message."""

    code = 0
    """Error code of ClickHouse; 0 if unknown."""

    @property
    def is_missing(self) -> bool:
        """Whether the table or the database does not exist."""
        return self.code in (60, 81)


@contextmanager
def classified_errors(address: Address) -> Iterator[None]:
    """Raises `ExporterUnavailable` for a temporary failure, `ClickHouseError` for any other."""
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
