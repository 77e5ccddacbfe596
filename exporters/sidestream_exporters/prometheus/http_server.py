"""A small HTTP server for one page, and the same page as an ASGI and a WSGI application.

Not prometheus_client's own: that looks up the host's name on start, takes half a second to stop, and renders on the
event loop it is mounted in.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Any, TypeAlias

Render: TypeAlias = Callable[[str], tuple[bytes, str]]
"""From the `Accept` header to the page and its content type."""
Scope: TypeAlias = MutableMapping[str, Any]
AsgiApp: TypeAlias = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]
WsgiApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

SECONDS = 10.0
"""For which a client may keep a connection without a word."""


class MetricsServer:
    """Answers `GET /metrics` on threads of its own. Raises `OSError` where it cannot listen.

    Args:
        share: Other processes may listen on the same port; the system gives each connection to one of them.
    """

    def __init__(self, host: str, port: int, render: Render, *, share: bool = False) -> None:
        self._server = _Server(host, port, render, share)
        self._closing = False
        self.host = host
        self.port: int = self._server.server_address[1]
        self._bell, self._rope = socket.socketpair()
        self._thread = Thread(target=self._serve, name="sidestream-metrics", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            selector.register(self._bell, selectors.EVENT_READ)
            while selector.select() and not self._closing:
                with suppress(Exception):  # no thread to be had for a request, or the like: the next one may work
                    self._server.handle_request()

    def close(self) -> None:
        self._closing = True
        self._rope.send(b"!")
        self._thread.join(1)
        self.abandon()

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's."""
        for end in (self._server.socket, self._bell, self._rope):
            end.close()


class _Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name == "posix"  # elsewhere it means that two may listen
    request_queue_size = 16
    timeout = 0  # of handling one: it is known to be there

    def __init__(self, host: str, port: int, render: Render, share: bool) -> None:
        self.address_family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self.allow_reuse_port = share and hasattr(socket, "SO_REUSEPORT")
        self.render = render
        super().__init__((str(address[0]), int(address[1])), _Handler)
        self.socket.setblocking(False)  # a client may be gone before it is accepted

    def server_bind(self) -> None:
        if self.allow_reuse_port:  # ours to set before Python 3.11.4
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of the program's business."""


class _Handler(BaseHTTPRequestHandler):
    timeout = SECONDS
    server: _Server

    def do_GET(self) -> None:
        if self.path.partition("?")[0] not in ("/", "/metrics"):
            self.send_error(404, explain="The metrics are at /metrics.")
            return
        try:
            body, content_type = self.server.render(self.headers.get("Accept", ""))
        except Exception as error:
            self.send_error(500, explain=f"The metrics cannot be rendered: {type(error).__qualname__}.")
            return
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def asgi_app(render: Render) -> AsgiApp:
    """The page as an ASGI application. It is rendered in a thread, so that the event loop goes on."""

    async def app(scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"the metrics are served over HTTP, not {scope['type']}")
        headers = [value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"]
        body, content_type = await asyncio.to_thread(render, ",".join(headers))
        described = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": described})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app


def wsgi_app(render: Render) -> WsgiApp:
    """The page as a WSGI application."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body, content_type = render(environ.get("HTTP_ACCEPT", ""))
        start_response("200 OK", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
        return [b"" if environ.get("REQUEST_METHOD") == "HEAD" else body]

    return app
