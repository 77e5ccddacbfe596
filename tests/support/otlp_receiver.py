"""OTLP endpoint on loopback, over HTTP or gRPC, with scripted answers and a record of its requests."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Answer:
    """Answer to one request. `status` is an HTTP status, or the number of a gRPC code."""

    status: int = 200
    rejected: int = 0
    retry_after: str | float | None = None
    delay: float = 0.0
    reset: bool = False
    body: bytes | None = None
    content_type: str = "application/x-protobuf"


OK = Answer()

KINDS: dict[str, Any] = {"metrics": ExportMetricsServiceRequest, "logs": ExportLogsServiceRequest}
"""Requests by the end of their path; others are of traces."""


@dataclass
class Received:
    """Received requests, and the answers to give: one after the other, the last one repeatedly."""

    answers: list[Answer] = field(default_factory=lambda: [OK])
    requests: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    refused: int = 0
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_answer(self) -> Answer:
        with self.lock:
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def took(self, request: Any, headers: dict[str, str], body: bytes, answer: Answer, *, ok: bool) -> None:
        with self.lock:
            if ok:
                self.requests.append(request)
                self.headers.append(headers)
                self.bodies.append(body)
            else:
                self.refused += 1
        if answer.delay:
            self.closing.wait(answer.delay)

    @property
    def spans(self) -> list[Any]:
        """Spans of all accepted requests."""
        return self._items("spans", "spans")

    @property
    def metrics(self) -> list[Any]:
        """Metrics of all accepted requests."""
        return self._items("metrics", "metrics")

    @property
    def log_records(self) -> list[Any]:
        """Log records of all accepted requests."""
        return self._items("logs", "log_records")

    def _items(self, signal: str, items: str) -> list[Any]:
        with self.lock:
            return [
                item
                for request in self.requests
                for resource in getattr(request, f"resource_{signal}", ())
                for scope in getattr(resource, f"scope_{signal}")
                for item in getattr(scope, items)
            ]

    def named(self, name: str) -> Any:
        """The only span with this name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span


def attributes(owner: Any) -> dict[str, Any]:
    """Attributes of a span, event, resource or data point, as plain values."""
    return {pair.key: _plain(pair.value) for pair in owner.attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)


@contextmanager
def nobody() -> Iterator[int]:
    """Port that is bound, but does not listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


# --- HTTP ----------------------------------------------------------------------------------------------------------


@contextmanager
def http_receiver(*answers: Answer, port: int = 0, tls: Any = None) -> Iterator[Received]:
    """HTTP endpoint. `tls`: an `ssl.SSLContext` for https."""
    received = Received(list(answers) or [OK])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 30

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(raw) if self.headers.get("content-encoding") == "gzip" else raw
            answer = received.next_answer()
            kind = KINDS.get(self.path.rpartition("/")[2], ExportTraceServiceRequest)
            request = kind.FromString(body)
            ok = 200 <= answer.status < 300 and not answer.reset
            headers = {key.lower(): value for key, value in self.headers.items()} | {":path": self.path}
            received.took(request, headers, body, answer, ok=ok)
            if answer.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
            self._answer(answer, kind)

        def _answer(self, answer: Answer, kind: Any) -> None:
            content = answer.body
            if content is None and kind is ExportMetricsServiceRequest:
                metrics = ExportMetricsServiceResponse()
                if answer.rejected:
                    metrics.partial_success.rejected_data_points = answer.rejected
                content = metrics.SerializeToString()
            elif content is None and kind is ExportLogsServiceRequest:
                logs = ExportLogsServiceResponse()
                if answer.rejected:
                    logs.partial_success.rejected_log_records = answer.rejected
                content = logs.SerializeToString()
            elif content is None:
                traces = ExportTraceServiceResponse()
                if answer.rejected:
                    traces.partial_success.rejected_spans = answer.rejected
                    traces.partial_success.error_message = "SENTINEL of the server"
                content = traces.SerializeToString()
            try:
                self.send_response(answer.status)
                self.send_header("content-type", answer.content_type)
                self.send_header("content-length", str(len(content)))
                if answer.retry_after is not None:
                    self.send_header("retry-after", str(answer.retry_after))
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # the exporter has closed the connection
                self.close_connection = True

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    received.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        received.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


# --- gRPC ----------------------------------------------------------------------------------------------------------


@contextmanager
def grpc_receiver(*answers: Answer, port: int = 0, credentials: Any = None) -> Iterator[Received]:
    """gRPC endpoint. In an `Answer`, 200 means OK, any other status is a gRPC code (14: UNAVAILABLE)."""
    received = Received(list(answers) or [OK])

    def export(body: bytes, context: grpc.ServicerContext, kind: Any = ExportTraceServiceRequest) -> bytes:
        answer = received.next_answer()
        headers = {key: str(value) for key, value in context.invocation_metadata()}
        ok = answer.status == 200
        received.took(kind.FromString(body), headers, body, answer, ok=ok)
        if not ok:
            code = next(code for code in grpc.StatusCode if code.value[0] == answer.status)
            if answer.retry_after is not None:
                info = RetryInfo()
                info.retry_delay.FromNanoseconds(int(float(answer.retry_after) * 1e9))
                detail = AnyMessage()
                detail.Pack(info)
                status = Status(code=answer.status, details=[detail])
                context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(code, "SENTINEL of the server")
        response = ExportTraceServiceResponse()
        if answer.rejected:
            response.partial_success.rejected_spans = answer.rejected
        return answer.body if answer.body is not None else response.SerializeToString()

    def export_logs(body: bytes, context: grpc.ServicerContext) -> bytes:
        return export(body, context, ExportLogsServiceRequest)

    method = grpc.unary_unary_rpc_method_handler(export)  # bytes in, bytes out
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    log_method = grpc.unary_unary_rpc_method_handler(export_logs)
    log_service = "opentelemetry.proto.collector.logs.v1.LogsService"
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": method}),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(log_service, {"Export": log_method}),))
    where = f"127.0.0.1:{port}"
    bound = server.add_insecure_port(where) if credentials is None else server.add_secure_port(where, credentials)
    received.url = f"http{'' if credentials is None else 's'}://127.0.0.1:{bound}"
    server.start()
    try:
        yield received
    finally:
        received.closing.set()
        server.stop(None).wait()


# --- other servers
# -----------------------------------------------------------------------------------------------------


@contextmanager
def talker(greeting: bytes) -> Iterator[str]:
    """Server that sends `greeting` on each connection, and does not speak OTLP; yields `127.0.0.1:PORT`."""
    server = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
                open_ones.append(connection)
                connection.sendall(greeting)
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for connection in open_ones:
            connection.close()
        thread.join()


def names(spans: Sequence[Any]) -> list[str]:
    return sorted(span.name for span in spans)
