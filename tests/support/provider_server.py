"""Provider on 127.0.0.1 that replays recorded answers of real providers.

A recording holds HTTP exchanges. The server returns the answers in order, regardless of the requests, and keeps the
requests. `Delivery` controls how an answer arrives: in which pieces, how fast, how completely.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import yaml


@dataclass(frozen=True)
class Exchange:
    """Recorded request and its answer."""

    method: str
    uri: str
    request: Any
    """JSON body of the request."""
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def path(self) -> str:
        """Path of the request, without the query."""
        return urlsplit(self.uri).path

    @property
    def events(self) -> list[Any]:
        """JSON values of the server-sent events in the answer, in order."""
        return sse_events(self.body)


ReadRecording: TypeAlias = Callable[[str], list[Exchange]]
"""Reader of recordings by name; the fixture `recording`."""


def sse_events(body: bytes) -> list[Any]:
    """JSON values of the complete server-sent events in `body`. Truncated events are skipped."""
    complete = body.replace(b"\r\n", b"\n").split(b"\n\n")[:-1]
    lines = [line for event in complete for line in event.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line[6:]) for line in lines if line != b"data: [DONE]"]


def read_recording(path: Path) -> list[Exchange]:
    """Exchanges of a recording in VCR's YAML format."""
    # Headers of the recorded connection do not apply to the replay.
    hop = {"connection", "content-encoding", "content-length", "transfer-encoding"}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    interactions = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)["interactions"]
    return [
        Exchange(
            method=request["method"],
            uri=request["uri"],
            request=request["parsed_body"],
            status=response["status"]["code"],
            headers=tuple((k, v) for k, values in response["headers"].items() if k not in hop for v in values),
            body=response["body"]["string"].encode(),
        )
        for request, response in ((i["request"], i["response"]) for i in interactions)
    ]


@dataclass
class Delivery:
    """Transfer of an answer. Default: one chunk per server-sent event, as fast as the client reads."""

    piece_bytes: int | None = None
    """Size of the pieces in bytes; None: split between events."""
    headers_delay: float = 0.0
    """Seconds before the status line."""
    delay: float = 0.0
    """Seconds between two pieces."""
    pauses: Mapping[int, float] = field(default_factory=dict)
    """Seconds before single pieces, by their number from 0."""
    hold_after: int | None = None
    """Number of pieces after which nothing more is sent, with the connection kept open."""
    cut_after: int | None = None
    """Number of bytes of the body after which the connection ends."""
    cut: Literal["reset", "close"] = "reset"
    """`reset`: RST, as from a crashed provider. `close`: orderly end without the last chunk."""

    def pieces(self, body: bytes) -> list[bytes]:
        """Pieces of `body` to send, up to the cut."""
        body = body if self.cut_after is None else body[: self.cut_after]
        if self.piece_bytes:
            return [body[i : i + self.piece_bytes] for i in range(0, len(body), self.piece_bytes)]
        end = b"\r\n\r\n" if b"\r\n\r\n" in body else b"\n\n"
        *events, rest = body.split(end)
        return [event + end for event in events] + ([rest] if rest else [])


@dataclass(frozen=True)
class Received:
    """Request received by the server."""

    method: str
    path: str
    body: Any


@dataclass
class ReplayServer:
    """Replays `exchanges` in order. Use as `with replay(...) as server`."""

    exchanges: Sequence[Exchange]
    deliveries: Sequence[Delivery]
    url: str = ""
    received: list[Received] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    """Bytes sent of each answer's body."""
    holding: threading.Event = field(default_factory=threading.Event)
    """Set when an answer has reached its `hold_after`."""
    stopping: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, request: Received) -> tuple[int, Exchange, Delivery] | None:
        """Index, exchange and delivery for `request`; None if the recording is exhausted."""
        with self._lock:
            index = len(self.received)
            self.received.append(request)
            self.sent.append(b"")
        if index >= len(self.exchanges):
            return None
        return index, self.exchanges[index], self.deliveries[min(index, len(self.deliveries) - 1)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    replay: ReplayServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = Received(self.command, urlsplit(self.path).path, json.loads(body))
        answer = self.replay.take(request)
        if answer is None:
            # 400 instead of 500, so that clients do not retry.
            self.send_error(400, "the recording has no more answers")
            return
        index, exchange, how = answer
        self.close_connection = True
        try:
            self._pause(how.headers_delay)
            self.send_response_only(exchange.status)  # no date, which would differ between two runs
            for name, value in exchange.headers:
                self.send_header(name, value)
            self.send_header("transfer-encoding", "chunked")
            self.send_header("connection", "close")
            self.end_headers()
            self._send(index, exchange.body, how)
        except OSError:
            pass  # the client has left

    def _send(self, index: int, body: bytes, how: Delivery) -> None:
        pieces = how.pieces(body)
        for number, piece in enumerate(pieces):
            if number == how.hold_after:
                self.replay.holding.set()
                self.replay.stopping.wait()
                return
            self._pause(how.pauses.get(number, how.delay if number else 0.0))
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            self.replay.sent[index] += piece
        if how.cut_after is None or how.cut_after > len(body):
            self.wfile.write(b"0\r\n\r\n")
        elif how.cut == "reset":
            # On other systems than Linux, a reset also discards data that the client has not read yet.
            self._pause(0.05)
            linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def _pause(self, seconds: float) -> None:
        if seconds:
            self.replay.stopping.wait(seconds)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a leaving client is not an error


@contextmanager
def replay(exchanges: Sequence[Exchange], *deliveries: Delivery) -> Iterator[ReplayServer]:
    """Serve `exchanges` on a free port of 127.0.0.1. The nth answer uses the nth delivery, further ones the last."""
    server = ReplayServer(exchanges, deliveries or [Delivery()])
    handler = type("Handler", (_Handler,), {"replay": server})
    http = _Server(("127.0.0.1", 0), handler)
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        http.shutdown()
        http.server_close()
        thread.join()
