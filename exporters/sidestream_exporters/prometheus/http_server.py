"""HTTP server of the metrics page, and the page as an ASGI and a WSGI application.

prometheus_client's own server does not bound its threads, resolves the host name at the start and takes half a second
to stop; its ASGI application renders on the event loop.
"""

from __future__ import annotations

import asyncio
import gzip
import selectors
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from math import inf
from typing import Any, NamedTuple, TypeAlias, cast

from sidestream.diagnostics import warn_once
from sidestream.pipeline.yielding import hurrying

Render: TypeAlias = Callable[[str], tuple[bytes, str]]
"""Function from the `Accept` header to the page and its content type."""
Scope: TypeAlias = MutableMapping[str, Any]
AsgiApp: TypeAlias = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]
WsgiApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

MAX_CLIENTS = 16
"""Connections at once; each takes one thread and one descriptor of the program."""
REQUEST_SECONDS = 5.0
"""Time limit for a client to send its whole request."""
RESPONSE_SECONDS = 60.0
"""Time limit for the page to be rendered and read."""
SCRAPE_TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"
"""Header with Prometheus' scrape timeout."""
SLICED_SHARE = 0.3
"""Share of the scrape timeout during which rendering sleeps between slices; afterwards rendering no longer sleeps."""
SHORT_SLICES_SECONDS = 0.1
"""Rendering time after which slices are long: a large page would otherwise spend most of its time asleep."""
PAUSE_SECONDS = 1.0
"""Pause before the next accept if the program has no descriptor or thread left."""


class Page(NamedTuple):
    """HTTP response: the encoded body, and its headers."""

    body: bytes
    headers: dict[str, str]


def render_page(render: Render, accept: str, accept_encoding: str, timeout: str = "") -> Page:
    """Page in the format and the encoding of the request's headers; `timeout` is the scrape timeout in seconds."""
    with hurrying(_sliced_seconds(timeout), SHORT_SLICES_SECONDS):
        body, content_type = render(accept)
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if _takes_gzip(accept_encoding):
        # Level 1 gives an eighth of the size. Level 9 costs five times as much for a tenth less.
        body = gzip.compress(body, 1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Page(body, headers | {"Content-Length": str(len(body))})


def _sliced_seconds(timeout: str) -> float:
    """Seconds for which rendering may sleep between slices, for a scrape `timeout` in seconds."""
    try:
        seconds = float(timeout)
    except ValueError:
        return inf
    return max(0.0, seconds * SLICED_SHARE) if seconds < inf else inf


def _takes_gzip(accept_encoding: str) -> bool:
    for each in accept_encoding.lower().split(","):
        coding, _, quality = each.replace(" ", "").partition(";q=")
        if coding == "gzip":
            with suppress(ValueError):
                return float(quality or 1) > 0
    return False


class MetricsServer:
    """Server of `GET /metrics`, with at most `MAX_CLIENTS` threads.

    A slow or silent client holds a descriptor of the agent's program. Each client therefore has a deadline for its
    whole request, and a full server disconnects the client that has been sending its request for longest.

    Args:
        share: Whether other processes may listen on the same port (`SO_REUSEPORT`).

    Raises:
        OSError: The address cannot be listened on.
    """

    def __init__(self, host: str, port: int, render: Render, *, share: bool = False) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        self._listener = socket.create_server(
            (str(address[0]), int(address[1])),
            family=cast(socket.AddressFamily, family),
            backlog=16,
            reuse_port=share and hasattr(socket, "SO_REUSEPORT"),
        )
        self._listener.setblocking(False)  # a client may disconnect between select and accept
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self._render = render
        self._rendering = threading.Lock()
        self._clients: dict[_Client, None] = {}
        """Open clients, oldest first. Only the listening thread adds a client; the client's own thread removes it."""
        self._closing = threading.Event()
        self._wakeup_read, self._wakeup_write = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wakeup_read, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="sidestream-metrics", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing.is_set():
            ready = self._selector.select(1.0 if self._clients else None)
            for client in list(self._clients):
                if time.monotonic() > client.deadline:
                    client.disconnect()
            if any(key.fileobj is self._listener for key, _ in ready):
                self._accept()

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client disconnected before the accept
        except OSError as error:
            self._pause(error.strerror or str(error))
            return
        if len(self._clients) >= MAX_CLIENTS and not self._disconnect_one():
            connection.close()
            return
        client = _Client(self, connection, address)
        self._clients[client] = None
        try:
            threading.Thread(target=client.answer, name="sidestream-metrics-client", daemon=True).start()
        except RuntimeError as error:
            self.forget(client)
            self._pause(str(error))

    def _pause(self, reason: str) -> None:
        """Wait before the next accept: a client that cannot be accepted stays ready, and the loop would spin."""
        warn_once("metrics cannot be served", reason, reason=reason, advice="raise the limit of open files and threads")
        self._closing.wait(PAUSE_SECONDS)

    def _disconnect_one(self) -> bool:
        for client in list(self._clients):
            if client.awaiting_request:
                client.disconnect()
                return True
        return False

    def forget(self, client: _Client) -> None:
        self._clients.pop(client, None)
        client.connection.close()

    def page(self, accept: str, accept_encoding: str, timeout: str) -> Page | None:
        """Page for one client; None if the server is busy. Pages render one at a time: each may take megabytes."""
        if not self._rendering.acquire(timeout=RESPONSE_SECONDS / 2):
            return None
        try:
            return render_page(self._render, accept, accept_encoding, timeout)
        finally:
            self._rendering.release()

    def close(self) -> None:
        """Stop listening. Clients whose request has been read still get their answer."""
        self._closing.set()
        self._wakeup_write.send(b"!")
        self._thread.join(PAUSE_SECONDS)
        for client in list(self._clients):
            if client.awaiting_request:
                client.disconnect()
        self._close_own()

    def abandon(self) -> None:
        """Close the descriptors of the parent's server in a forked child."""
        for client in self._clients:
            client.connection.close()
        self._close_own()

    def _close_own(self) -> None:
        for end in (self._selector, self._listener, self._wakeup_read, self._wakeup_write):
            end.close()


class _Client:
    """Connection of one client."""

    def __init__(self, server: MetricsServer, connection: socket.socket, address: Any) -> None:
        self.server = server
        self.connection = connection
        self.address = address
        self.deadline = time.monotonic() + REQUEST_SECONDS
        """Monotonic time at which the listening thread disconnects the client."""
        self.awaiting_request = True
        """Whether the request has not been read completely yet."""

    def answer(self) -> None:
        try:
            self.connection.setblocking(True)
            with suppress(OSError, ValueError):  # the client disconnected
                _Handler(self.connection, self.address, self)  # type: ignore[arg-type]
        finally:
            self.server.forget(self)

    def request_received(self) -> None:
        self.awaiting_request = False
        self.deadline = time.monotonic() + RESPONSE_SECONDS

    def disconnect(self) -> None:
        """Shut down the connection, which ends the blocking read or write of the client's thread."""
        self.awaiting_request = False
        self.deadline = inf
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Client  # type: ignore[assignment]

    def do_GET(self) -> None:
        self.server.request_received()
        if self.path.partition("?")[0] not in ("/", "/metrics"):
            self.send_error(404, explain="The metrics are at /metrics.")
            return
        try:
            accepted = ", ".join(self.headers.get_all("Accept", ()))
            encoding, timeout = self.headers.get("Accept-Encoding", ""), self.headers.get(SCRAPE_TIMEOUT, "")
            page = self.server.server.page(accepted, encoding, timeout)
        except Exception as error:
            kind = type(error).__qualname__
            warn_once("metrics cannot be rendered", kind, exception=kind)
            self.send_error(500, explain=f"The metrics cannot be rendered: {kind}.")
            return
        if page is None:
            self.send_error(503, explain="The server is busy with other clients.")
            return
        self.send_response(200)
        for name, value in page.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(page.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def asgi_app(render: Render) -> AsgiApp:
    """ASGI application of the page. Rendering happens in a thread, so that the event loop is not blocked."""

    async def app(scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"the metrics are served over HTTP, not {scope['type']}")

        def header_value(header: bytes) -> str:
            return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == header)

        timeout = header_value(SCRAPE_TIMEOUT.lower().encode())
        page = await asyncio.to_thread(
            render_page, render, header_value(b"accept"), header_value(b"accept-encoding"), timeout
        )
        headers = [(name.lower().encode(), value.encode()) for name, value in page.headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else page.body})

    return app


def wsgi_app(render: Render) -> WsgiApp:
    """WSGI application of the page."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        timeout = environ.get(f"HTTP_{SCRAPE_TIMEOUT.upper().replace('-', '_')}", "")
        page = render_page(render, environ.get("HTTP_ACCEPT", ""), environ.get("HTTP_ACCEPT_ENCODING", ""), timeout)
        start_response("200 OK", list(page.headers.items()))
        return [b"" if environ.get("REQUEST_METHOD") == "HEAD" else page.body]

    return app
