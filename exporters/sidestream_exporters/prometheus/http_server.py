"""HTTP server of one page, and the same page as an ASGI and a WSGI application.

prometheus_client's own server has no bound on its threads, looks up the host's name on start, takes half a second to
stop; its ASGI application renders on the event loop.
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
"""From the `Accept` header to the page and its content type."""
Scope: TypeAlias = MutableMapping[str, Any]
AsgiApp: TypeAlias = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]
WsgiApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

MAX_CLIENTS = 16
"""Connections at once, with a thread and a descriptor of the program's each."""
ASK_SECONDS = 5.0
"""For a client to send the whole of its request."""
ANSWER_SECONDS = 60.0
"""For the page to be rendered and read, all in all."""
SCRAPE_TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"
"""Header in which Prometheus says how long it waits."""
UNHURRIED = 0.3
"""Share of that time for which the page is rendered in slices, with sleep in between; the rest of it in one go."""
PAUSE_SECONDS = 1.0
"""Between two attempts to accept a client, where the program has no descriptor or thread left."""


class Page(NamedTuple):
    """One answer: the body as it goes over the wire, and the headers that describe it."""

    body: bytes
    headers: dict[str, str]


def render_page(render: Render, accept: str, accept_encoding: str, timeout: str = "") -> Page:
    """The page in the format and the encoding that a client asks for, within the `timeout` that it gives in seconds."""
    with hurrying(_patience(timeout)):
        body, content_type = render(accept)
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if _takes_gzip(accept_encoding):
        # The fastest level: an eighth of the size. The highest costs five times as much for a tenth less.
        body = gzip.compress(body, 1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Page(body, headers | {"Content-Length": str(len(body))})


def _patience(timeout: str) -> float:
    """Seconds for which the page may be rendered without a hurry, out of the `timeout` of a scrape."""
    try:
        seconds = float(timeout)
    except ValueError:
        return inf
    return max(0.0, seconds * UNHURRIED) if seconds < inf else inf


def _takes_gzip(accept_encoding: str) -> bool:
    for each in accept_encoding.lower().split(","):
        coding, _, quality = each.replace(" ", "").partition(";q=")
        if coding == "gzip":
            with suppress(ValueError):
                return float(quality or 1) > 0
    return False


class MetricsServer:
    """Answers `GET /metrics` on threads of its own, at most `MAX_CLIENTS` of them.

    A client that is slow or silent holds a descriptor of the agent's program. So each has a deadline for the
    whole of its request, and where all places are taken the one that has been asking for longest is put out.

    Args:
        share: Other processes may listen on the same port; the system gives each connection to one of them.

    Raises:
        OSError: the address cannot be listened on.
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
        self._listener.setblocking(False)  # a client may be gone before it is accepted
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self._render = render
        self._rendering = threading.Lock()
        self._clients: dict[_Client, None] = {}
        """In the order in which they came. Only the listening thread adds to it; each client's own removes it."""
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
                    client.put_out()
            if any(key.fileobj is self._listener for key, _ in ready):
                self._accept()

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # gone again
        except OSError as error:
            self._pause(error.strerror or str(error))
            return
        if len(self._clients) >= MAX_CLIENTS and not self._put_out_one():
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
        """Waits before the next client: one that cannot be accepted stays ready, and the loop would spin."""
        warn_once("metrics cannot be served", reason, reason=reason, advice="raise the limit of open files and threads")
        self._closing.wait(PAUSE_SECONDS)

    def _put_out_one(self) -> bool:
        for client in list(self._clients):
            if client.asking:
                client.put_out()
                return True
        return False

    def forget(self, client: _Client) -> None:
        self._clients.pop(client, None)
        client.connection.close()

    def page(self, accept: str, accept_encoding: str, timeout: str) -> Page | None:
        """The page; None where others keep the server busy. One at a time is rendered: it may be of many megabytes."""
        if not self._rendering.acquire(timeout=ANSWER_SECONDS / 2):
            return None
        try:
            return render_page(self._render, accept, accept_encoding, timeout)
        finally:
            self._rendering.release()

    def close(self) -> None:
        """Stops listening. Clients that have asked still get their answer."""
        self._closing.set()
        self._wakeup_write.send(b"!")
        self._thread.join(PAUSE_SECONDS)
        for client in list(self._clients):
            if client.asking:
                client.put_out()
        self._close_own()

    def abandon(self) -> None:
        """Closes the descriptors that a forked child has of its parent's server."""
        for client in self._clients:
            client.connection.close()
        self._close_own()

    def _close_own(self) -> None:
        for end in (self._selector, self._listener, self._wakeup_read, self._wakeup_write):
            end.close()


class _Client:
    """One connection, from its acceptance to its end."""

    def __init__(self, server: MetricsServer, connection: socket.socket, address: Any) -> None:
        self.server = server
        self.connection = connection
        self.address = address
        self.deadline = time.monotonic() + ASK_SECONDS
        """When the listening thread puts the client out."""
        self.asking = True
        """Whether the request has not been read yet."""

    def answer(self) -> None:
        try:
            self.connection.setblocking(True)
            with suppress(OSError, ValueError):  # a client that went away is none of the program's business
                _Handler(self.connection, self.address, self)  # type: ignore[arg-type]
        finally:
            self.server.forget(self)

    def has_asked(self) -> None:
        self.asking = False
        self.deadline = time.monotonic() + ANSWER_SECONDS

    def put_out(self) -> None:
        """Ends the connection under the thread that waits on it."""
        self.asking = False
        self.deadline = inf
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Client  # type: ignore[assignment]

    def do_GET(self) -> None:
        self.server.has_asked()
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
            self.send_error(503, explain="Other clients keep the page busy.")
            return
        self.send_response(200)
        for name, value in page.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(page.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def asgi_app(render: Render) -> AsgiApp:
    """The page as an ASGI application. It is rendered in a thread, so that the event loop goes on."""

    async def app(scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"the metrics are served over HTTP, not {scope['type']}")

        def asked(header: bytes) -> str:
            return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == header)

        timeout = asked(SCRAPE_TIMEOUT.lower().encode())
        page = await asyncio.to_thread(render_page, render, asked(b"accept"), asked(b"accept-encoding"), timeout)
        headers = [(name.lower().encode(), value.encode()) for name, value in page.headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else page.body})

    return app


def wsgi_app(render: Render) -> WsgiApp:
    """The page as a WSGI application."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        timeout = environ.get(f"HTTP_{SCRAPE_TIMEOUT.upper().replace('-', '_')}", "")
        page = render_page(render, environ.get("HTTP_ACCEPT", ""), environ.get("HTTP_ACCEPT_ENCODING", ""), timeout)
        start_response("200 OK", list(page.headers.items()))
        return [b"" if environ.get("REQUEST_METHOD") == "HEAD" else page.body]

    return app
