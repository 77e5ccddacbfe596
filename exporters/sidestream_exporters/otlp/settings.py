"""Settings of the OTLP exporter: arguments, then the standard environment variables, then defaults.

The variables are specified in https://opentelemetry.io/docs/specs/otel/protocol/exporter/. A signal's own variable
(`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) takes precedence over the general one. An invalid value raises at once.
"""

from __future__ import annotations

import math
import os
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast, get_args
from urllib.parse import SplitResult, unquote, urlsplit

from sidestream.diagnostics import warn_once
from sidestream.errors import ConfigurationError
from sidestream.pipeline.addresses import shown_url, shown_value
from sidestream.recording.content import NONE, ContentPolicy

Protocol: TypeAlias = Literal["http/protobuf", "grpc"]
Compression: TypeAlias = Literal["none", "gzip"]
Signal: TypeAlias = Literal["traces", "metrics", "logs"]
Placement: TypeAlias = Literal["span", "event", "both"]
"""Placement of content: in attributes of the span, of a span event, or both."""

GRPC_PORT = 4317
_HEADER_NAME = re.compile(r"[a-z]{1,16}\d?([-_][a-z]{0,16}\d{0,2}){0,5}")
"""Pattern of header names that are safe to log: short words. An API key is longer, or mixes letters and digits."""
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Endpoint and connection settings of one signal."""

    protocol: Protocol
    url: str = field(repr=False)
    """URL with the signal's path for HTTP; scheme, host and port for gRPC. May hold a key: log `shown` instead."""
    headers: Mapping[str, str] = field(repr=False)
    """Headers by name in lower case. The values may be secret."""
    timeout: float
    """Seconds that one request may take."""
    compression: Compression
    certificate: str | None
    """PEM file of the authorities to trust; None trusts the system's."""
    client_certificate: str | None
    client_key: str | None

    @property
    def shown(self) -> str:
        """URL for log messages, without parts that may be secret: the query, and a nonstandard path."""
        return shown_url(self.url)

    @property
    def secure(self) -> bool:
        return self.url.startswith("https:")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterArguments:
    """Settings passed as arguments. None: the environment variable applies, then the default."""

    endpoint: str | None = None
    protocol: str | None = None
    headers: Mapping[str, str] | str | None = None
    timeout: float | None = None
    compression: str | None = None
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None


def endpoint_of(signal: Signal, given: ExporterArguments) -> Endpoint:
    """Endpoint of `signal`. Raises `ConfigurationError` for an invalid value."""
    where, address = _setting(signal, "ENDPOINT", given.endpoint)
    protocol_from, protocol = _setting(signal, "PROTOCOL", given.protocol)
    if protocol is None:
        protocol = "grpc" if address is not None and _port(where, address) == GRPC_PORT else "http/protobuf"
    if protocol == "http/json" and given.protocol is None:  # a valid value of the variable, so not an error
        warn_once("OTLP as JSON is not implemented, sending http/protobuf", protocol_from, variable=protocol_from)
        protocol = "http/protobuf"
    if protocol not in get_args(Protocol):
        raise ConfigurationError(f"otlp: {protocol_from}={shown_value(protocol)}: choose http/protobuf or grpc")
    compression_from, compression = _setting(signal, "COMPRESSION", given.compression)
    compression = (compression or "none").lower()
    if compression not in get_args(Compression):
        raise ConfigurationError(
            f"otlp: {compression_from}={shown_value(compression)}: choose {' or '.join(get_args(Compression))}"
        )
    headers_from, headers = _setting(signal, "HEADERS", given.headers)
    certificates = {
        name: _setting(signal, name.upper(), getattr(given, name))
        for name in ("certificate", "client_certificate", "client_key")
    }
    _check_certificates(certificates)
    return Endpoint(
        protocol=cast(Protocol, protocol),
        url=(_grpc_url if protocol == "grpc" else _http_url)(signal, where, address),
        headers=_headers(headers_from, headers),
        timeout=_timeout(*_setting(signal, "TIMEOUT", given.timeout)),
        compression=cast(Compression, compression),
        certificate=certificates["certificate"][1],
        client_certificate=certificates["client_certificate"][1],
        client_key=certificates["client_key"][1],
    )


def content_of(given: str | ContentPolicy | None) -> tuple[ContentPolicy, Placement]:
    """Content policy and placement: the argument, else the variable of the conventions, else no content."""
    asked = os.environ.get(CAPTURE, "").strip().upper()
    placements: dict[str, Placement | None] = {
        "": None,
        "NO_CONTENT": None,
        "FALSE": None,
        "SPAN_ONLY": "span",
        "TRUE": "span",
        "EVENT_ONLY": "event",
        "SPAN_AND_EVENT": "both",
    }
    if asked not in placements:
        choices = "NO_CONTENT, SPAN_ONLY, EVENT_ONLY or SPAN_AND_EVENT"
        raise ConfigurationError(f"otlp: {CAPTURE}={shown_value(asked)}: choose {choices}")
    placement = placements[asked]
    if given is not None:
        return ContentPolicy.parse(given), placement or "span"
    return (NONE, "span") if placement is None else (ContentPolicy("full"), placement)


def sdk_disabled() -> bool:
    """Whether `OTEL_SDK_DISABLED` turns the exporter off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


# --- single settings -----------------------------------------------------------------------------------------------


def _setting(signal: Signal, name: str, given: object) -> tuple[str, str | None]:
    """Name of the setting for error messages, and its value. An empty variable counts as unset."""
    if given is not None:
        return name.lower(), cast(str, given)
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        if value := os.environ.get(variable, "").strip():
            return variable, value
    return name.lower(), None


def _split(where: str, address: str) -> SplitResult:
    """Parsed `address`: a URL, or `host:port` as usual with gRPC. Raises `ConfigurationError`."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        port = parts.port
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError(f"otlp: {where} is not a URL: write http://HOST:PORT") from None
    if parts.username or parts.password:
        raise ConfigurationError(f"otlp: {where}: credentials do not go into the URL: use OTEL_EXPORTER_OTLP_HEADERS")
    if parts.scheme not in ("http", "https", "") or not parts.hostname or port == 0 or parts.fragment:
        raise ConfigurationError(f"otlp: {where} is not a usable URL: write http://HOST:PORT")
    return parts


def _port(where: str, address: str) -> int | None:
    return _split(where, address).port


def _http_url(signal: Signal, where: str, address: str | None) -> str:
    address = address or "http://localhost:4318"
    parts = _split(where, address)
    if not parts.scheme:
        host = parts.netloc if parts.port else "HOST:PORT"
        raise ConfigurationError(f"otlp: {where} has no scheme: write http://{host} or https://{host}")
    if where.startswith(f"OTEL_EXPORTER_OTLP_{signal.upper()}_"):
        return parts._replace(path=parts.path or "/").geturl()  # the specification: no path is added
    path = parts.path.rstrip("/")
    for each in get_args(Signal):  # an address that already ends with a signal's path
        path = path.removesuffix(f"/v1/{each}")
    return parts._replace(path=f"{path}/v1/{signal}").geturl()


def _grpc_url(signal: Signal, where: str, address: str | None) -> str:
    address = address or f"http://localhost:{GRPC_PORT}"
    parts = _split(where, address)
    if parts.path not in ("", "/") or parts.query:
        raise ConfigurationError(f"otlp: {where}: with gRPC an address has no path: write http://HOST:PORT")
    scheme = parts.scheme
    if not scheme:
        _, insecure = _setting(signal, "INSECURE", None)
        scheme = "http" if insecure is not None and insecure.lower() == "true" else "https"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{scheme}://{host}:{parts.port or (443 if scheme == 'https' else 80)}"


def _timeout(where: str, value: object) -> float:
    try:
        seconds = 10.0 if value is None else float(cast(str, value))
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds < math.inf or isinstance(value, bool):
        raise ConfigurationError(f"otlp: {where}={shown_value(value)}: must be seconds above zero, such as 10")
    return seconds


def _headers(where: str, given: Mapping[str, str] | str | None) -> dict[str, str]:
    """Headers by lower-case name, from a mapping or percent-encoded `name=value,name=value`.

    Raises `ConfigurationError`, whose message never holds a value.
    """
    if given is None:
        return {}
    if isinstance(given, str):
        pairs = [part.partition("=") for part in given.split(",") if part.strip()]
        if any(not equals for _, equals, _ in pairs):
            raise ConfigurationError(f"otlp: {where}: write headers as name=value,name=value")
        items = [(unquote(name.strip()), unquote(value.strip())) for name, _, value in pairs]
    else:
        items = list(given.items())
    headers: dict[str, str] = {}
    for name, value in items:
        key = name.strip().lower() if isinstance(name, str) else ""
        if not key or not all(sign.isalnum() or sign in "!#$%&'*+-.^_`|~" for sign in key) or not key.isascii():
            raise ConfigurationError(
                f"otlp: {where}: the text before = is not a header name: letters, digits and - only"
            )
        if not isinstance(value, str) or not value.isprintable() or not value.isascii():
            (shown,) = shown_names([key])
            raise ConfigurationError(f"otlp: {where}: the value of {shown} must be printable ASCII text")
        headers[key] = value
    return headers


def shown_names(headers: Iterable[str]) -> list[str]:
    """Sorted header names for log messages; `…` for a name that may be a misplaced API key."""
    return sorted(name if _HEADER_NAME.fullmatch(name) else "…" for name in headers)


def _check_certificates(files: Mapping[str, tuple[str, str | None]]) -> None:
    (_, authority), (chain_from, chain), (key_from, key) = (
        files["certificate"],
        files["client_certificate"],
        files["client_key"],
    )
    for where, path in files.values():
        if path is not None:
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                shown = f"{where}={shown_value(path)}"
                raise ConfigurationError(f"otlp: {shown} cannot be read: {error.strerror}") from None
    if (chain is None) != (key is None):
        there, missing = (chain_from, "client_key") if key is None else (key_from, "client_certificate")
        raise ConfigurationError(f"otlp: {there} is given without {missing}: they go together")
    try:
        if authority is not None:
            ssl.create_default_context(cafile=authority)
        if chain is not None:
            ssl.create_default_context().load_cert_chain(chain, key, password=lambda: "")
    except (ssl.SSLError, ValueError, OSError):
        where, path = files["certificate" if chain is None else "client_certificate"]
        raise ConfigurationError(
            f"otlp: {where}={shown_value(path)} is not a usable certificate: it must be a PEM file"
        ) from None
