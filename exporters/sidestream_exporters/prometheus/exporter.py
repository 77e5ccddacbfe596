"""Prometheus exporter: counts every event, and serves the metrics to scrapes or pushes them to a gateway.

`docs/metrics.md` defines the metrics, and `sidestream.metrics` aggregates them. The exporter renders the page in
Prometheus' text format, or in OpenMetrics, whose exemplars link to traces.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http.client import HTTPException
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, pushadd_to_gateway
from prometheus_client.exposition import choose_encoder

from sidestream.diagnostics import info, warn, warn_missing, warn_once
from sidestream.errors import ConfigurationError, ExporterUnavailable
from sidestream.events import StreamEvent
from sidestream.metrics.aggregator import MetricsAggregator
from sidestream.metrics.selection import Buckets, Selection
from sidestream.metrics.store import MAX_VALUES, Point
from sidestream.pipeline.addresses import shown_url, shown_value
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.yielding import GilYielder
from sidestream.recording.content import NONE
from sidestream.stats import SidecarStats

from . import compat, protobuf_format
from .bounded_calls import BoundedCalls
from .http_server import AsgiApp, MetricsServer, WsgiApp, asgi_app, wsgi_app
from .text_format import MetricsCollector
from .worker_files import ProcessFiles

HOST = "127.0.0.1"
PORT = 9464
Histograms: TypeAlias = Literal["classic", "native"]
PUSH_SECONDS = 2.0
"""Longest wait for the push gateway."""

_TAKEN = (
    "another process has the port, maybe another worker of this server: choose another port; set "
    "PROMETHEUS_MULTIPROC_DIR for a server of several processes; or let `sidestream collect` serve the metrics of all"
)


class PrometheusExporter(Exporter):
    """Counts runs, requests, tokens and tool calls, and serves the metrics to Prometheus.

    With `PROMETHEUS_MULTIPROC_DIR` set, the processes of a server share their counts through files in that folder, and
    each process serves the metrics of all.

    Args:
        port: Port of `GET /metrics`, or `host:port`; 0 takes any free port (see `url`). None serves no endpoint.
            `auto` is `OTEL_EXPORTER_PROMETHEUS_PORT`, else 9464; with `registry` or `push` no endpoint.
        host: Address to listen on; None is `OTEL_EXPORTER_PROMETHEUS_HOST`, else 127.0.0.1. The page shows the names of
            agents, models and tools: consider who can reach the address.
        registry: Registry of the application, in which the metrics are registered too.
        push: URL of a gateway that gets the metrics on each flush and at the end, for programs too short to be scraped.
        job: Job label of pushed metrics; None is `OTEL_SERVICE_NAME`, else `sidestream`.
        instance: Instance label of pushed metrics; None is `host:process id`, so that programs do not overwrite each
            other's metrics. The gateway keeps each instance until it is deleted: set a name for recurring jobs.
        label_values: Distinct values of each label; further values are counted as `other`.
        label_tags: Names of tags that become labels of runs, tokens and cost: `tenant`, or several, separated by
            commas. Names and values appear on the page.
        metrics: Names of the metrics to serve, separated by commas, with `*` as a wildcard; a leading `-` excludes, as
            in `-gen_ai_*`. Empty serves all. Metrics that identify the process are always served.
        buckets: `fine`, or `coarse` for a quarter of the buckets of each histogram, and so of most time series.
        histograms: `classic`, or `native` to add native histograms for scrapes in Prometheus' protobuf format. Other
            scrapes, `registry` and `push` have classic histograms only.

    Raises:
        ConfigurationError: An option is invalid, `registry` already has metrics of these names, or `histograms` is
            `native` with `PROMETHEUS_MULTIPROC_DIR`.
    """

    name = "prometheus"
    content = NONE
    skip = MetricsAggregator.skip
    eager = True

    def __init__(
        self,
        port: int | str | None = "auto",
        *,
        host: str | None = None,
        registry: CollectorRegistry | None = None,
        push: str | None = None,
        job: str | None = None,
        instance: str | None = None,
        label_values: int = MAX_VALUES,
        label_tags: str | Sequence[str] = (),
        metrics: str | Sequence[str] = (),
        buckets: Buckets = "fine",
        histograms: Histograms = "classic",
    ) -> None:
        if isinstance(label_values, bool) or not isinstance(label_values, int) or label_values < 1:
            raise ConfigurationError(f"prometheus: label_values={label_values!r}: must be a number of 1 or more")
        if histograms not in get_args(Histograms):
            raise ConfigurationError(
                f"prometheus: histograms={histograms!r}: choose {' or '.join(get_args(Histograms))}"
            )
        warn_missing("prometheus_client", compat.probes)
        served = registry is None and push is None if port == "auto" else port is not None
        self._address = _address(port, host) if served else None
        self._push = None if push is None else _gateway(push)
        self._job = job or os.environ.get("OTEL_SERVICE_NAME") or "sidestream"
        self._instance = instance
        self._pushes = BoundedCalls()
        self._label_values = label_values
        self._label_tags = tuple(_names(label_tags))
        self._selection = Selection(_names(metrics), buckets)
        self._native = histograms == "native"
        self._aggregator = self._new_aggregator()
        self._get_stats: Callable[[], SidecarStats] | None = None
        self._server: MetricsServer | None = None
        self._failing = False
        self._collector = MetricsCollector(self._snapshot, self._selection.metrics)
        self._own = self._own_registries()
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if folder and self._native:
            raise ConfigurationError(
                "prometheus: histograms='native' cannot work with PROMETHEUS_MULTIPROC_DIR, whose files have classic "
                "buckets only: leave out the option, or let `sidestream collect` serve the metrics of all processes"
            )
        self._files = ProcessFiles(folder, self._snapshot, self._selection.metrics) if folder else None
        self._registry = None if self._files else registry  # MultiProcessCollector would collect the metrics twice
        if self._registry is not None:
            try:
                self._registry.register(self._collector)
            except ValueError:
                raise ConfigurationError(
                    "prometheus: the registry has metrics of these names: give each exporter a registry of its own, "
                    "and close a sidecar before the next one takes the same"
                ) from None

    # --- the exporter's contract ---

    def bind(self, get_stats: Callable[[], SidecarStats]) -> None:
        self._get_stats = get_stats

    def start(self) -> None:
        """Open the endpoint.

        Raises:
            ExporterUnavailable: The address cannot be listened on. Events stay queued until the endpoint opens.
        """
        if self._address is not None and self._server is None:
            try:
                self._server = MetricsServer(*self._address, self.render, share=self._files is not None)
            except OSError as error:
                raise self._unavailable(error) from error
        if self._failing:
            self._failing = False
            info("metrics endpoint is open", url=self.url)
        if self._files is not None:
            self._files.start()

    def export(self, events: Sequence[StreamEvent]) -> Mapping[str, int] | None:
        """Count `events`; returns the number of events that failed, under the reason `error`."""
        lost, yielder = 0, GilYielder()
        for event in events:
            try:
                self._aggregator.add(event)
            except Exception as error:  # an event of a third party, with fields of the wrong type
                lost += 1
                kind = type(error).__qualname__
                warn_once("event cannot be counted", kind, event_type=event.event_type, exception=kind)
            yielder.maybe_yield()
        return {"error": lost} if lost else None

    def flush(self) -> None:
        if self._files is not None:
            self._files.sync()
        if self._push is not None:
            try:
                self._pushes.call(partial(self._push_page, self._push), PUSH_SECONDS)
            except (OSError, HTTPException) as error:
                gateway, reason = shown_url(self._push), str(error)
                warn_once("metrics cannot be pushed", self._push, gateway=gateway, reason=reason)
                raise ExporterUnavailable(f"{gateway}: {reason}") from error

    def _push_page(self, gateway: str) -> None:
        group = {"instance": self._instance or f"{socket.gethostname()}:{os.getpid()}"}
        pushadd_to_gateway(gateway, self._job, self._page(), group, timeout=PUSH_SECONDS)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._registry is not None:
            self._registry.unregister(self._collector)
            self._registry = None
        if self._files is not None:
            self._files.stop()

    def after_fork(self) -> None:
        if self._server is not None:
            self._server.abandon()
            self._server = None
        self._failing = False
        self._pushes = BoundedCalls()
        self._aggregator = self._new_aggregator()
        self._own = self._own_registries()  # the fork may have copied a held lock of the old registries
        if self._files is not None:
            self._files = ProcessFiles(self._files.path, self._snapshot, self._selection.metrics)

    # --- between processes ---

    def dump_state(self) -> Any:
        """State of all counters and histograms, for a later process to continue from with `load_state`."""
        return self._aggregator.store.dump_state()

    def load_state(self, state: Any) -> None:
        """Restore a state of `dump_state`. Call before `start`: a scrape in between would see counters reset."""
        self._aggregator.store.load_state(state)

    # --- the page ---

    @property
    def url(self) -> str | None:
        """URL of the metrics; None while no endpoint is open."""
        if self._server is None:
            return None
        host = f"[{self._server.host}]" if ":" in self._server.host else self._server.host
        return f"http://{host}:{self._server.port}/metrics"

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Page of metrics and its content type. Thread-safe.

        Args:
            accept: `Accept` header of the request, which selects the format; Prometheus' text format if empty.
        """
        if self._native and protobuf_format.is_preferred(accept):
            return protobuf_format.render(self._selection.metrics, self._snapshot()), protobuf_format.CONTENT_TYPE
        encode, content_type = choose_encoder(accept)
        return encode(self._page(openmetrics="openmetrics" in content_type)), content_type

    def asgi_app(self) -> AsgiApp:
        """ASGI application of the page, to mount: `app.mount("/metrics", exporter.asgi_app())`."""
        return asgi_app(self.render)

    def wsgi_app(self) -> WsgiApp:
        """WSGI application of the page."""
        return wsgi_app(self.render)

    def _page(self, *, openmetrics: bool = False) -> CollectorRegistry:
        if self._files is None:
            return self._own[openmetrics]
        self._files.sync()
        return self._files.registry()

    def _new_aggregator(self) -> MetricsAggregator:
        return MetricsAggregator(self._label_values, self._label_tags, native=self._native)

    def _own_registries(self) -> dict[bool, CollectorRegistry]:
        """Registries of this exporter's metrics only, for Prometheus' text format (False) and OpenMetrics (True)."""
        registries = {}
        for openmetrics in (False, True):
            registries[openmetrics] = CollectorRegistry()
            registries[openmetrics].register(
                MetricsCollector(self._snapshot, self._selection.metrics, with_created=openmetrics)
            )
        return registries

    def _snapshot(self) -> Mapping[str, Sequence[Point]]:
        return self._selection.of(self._aggregator.snapshot(self._get_stats() if self._get_stats else None))

    def _unavailable(self, error: OSError) -> ExporterUnavailable:
        host, port = self._address or ("", 0)
        reason = error.strerror or str(error)
        if not self._failing:
            self._failing = True
            warn(
                "metrics endpoint cannot be opened, keeping events and trying again",
                address=f"{host}:{port}",
                reason=reason,
                advice=_TAKEN,
            )
        return ExporterUnavailable(f"{host}:{port}: {reason}")


# --- settings ------------------------------------------------------------------------------------------------------


def _names(given: str | Sequence[str]) -> list[str]:
    names = given.split(",") if isinstance(given, str) else given
    return [name.strip() for name in names if name.strip()]


def _address(port: int | str | None, host: str | None) -> tuple[str, int]:
    source = f"port={(shown_url(port) if isinstance(port, str) else port)!r}"
    if port == "auto":
        text = os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT", "").strip()
        source, port = f"OTEL_EXPORTER_PROMETHEUS_PORT={shown_value(text)}", text or PORT
    given, colon, number = str(port).rpartition(":")
    if colon and host is not None:
        both = f"{source} has a host, and host={shown_value(host)} is given too"
        raise ConfigurationError(f"prometheus: {both}: give one of them")
    if isinstance(port, bool) or not (number.isascii() and number.isdigit()) or int(number) > 65_535:
        raise ConfigurationError(f"prometheus: {source}: must be a port from 0 to 65535, or host:port")
    host = given.strip("[]") or host or os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip() or HOST
    return host, int(number)


def _gateway(url: str) -> str:
    try:
        parts = urlsplit(url)
        works = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        works = works and parts.port != 0
        works = works and url.isascii() and url.isprintable() and " " not in url  # urllib's error would show the URL
    except ValueError:
        works = False
    if not works:
        raise ConfigurationError("prometheus: push: must be a URL such as http://127.0.0.1:9091, without a password")
    return url
