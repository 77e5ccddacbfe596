"""Application instrumented by OpenTelemetry's own packages: one trace from the request to the calls of a tool."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from pydantic_ai import Agent

from tests.support.application_spans import Application, SpanExporter, agent_of, begun_by, parent_id, span_id, trace_id
from tests.support.loopback import served, until

pytestmark = pytest.mark.scenario_05

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    """Server called by a tool; returns the received `traceparent`."""

    class Shop(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.headers.get("traceparent", "").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def agent(shop: str, application: Application, log: SpanExporter) -> Agent:
    async def look_up() -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            HTTPXClientInstrumentor.instrument_client(client, tracer_provider=application.provider)
            return (await client.get(shop)).text

    return log.sidecar.observe(agent_of(look_up))


@pytest.fixture
def web(application: Application, agent: Agent) -> Iterator[httpx.Client]:
    """Client of the application."""
    app = FastAPI()

    @app.get("/run")
    async def run() -> str:
        return str((await agent.run("go")).output)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            async with agent.run_stream("go") as result:
                async for piece in result.stream_text(delta=True, debounce_by=None):
                    yield piece

        return StreamingResponse(body())

    @app.get("/events")
    async def events() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            async with agent.run_stream_events("go") as events:
                async for event in events:
                    yield event.event_kind + "\n"

        return StreamingResponse(body())

    FastAPIInstrumentor.instrument_app(app, tracer_provider=application.provider)
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    with served(app) as address, httpx.Client(base_url=address, trust_env=False, timeout=30, headers=headers) as client:
        yield client


def request_of(application: Application, path: str) -> ReadableSpan:
    until(lambda: any(span.name == f"GET {path}" for span in application.spans))
    return application.span(f"GET {path}")


@pytest.mark.parametrize("path", ["/run", "/stream", "/events"])
def test_one_trace_goes_from_the_request_through_run_and_tool_to_what_the_tool_calls(
    path: str, web: httpx.Client, application: Application, log: SpanExporter
) -> None:
    """A streamed response is produced after the handler returns, in a task of the server."""
    answer = web.get(path)
    assert answer.status_code == 200
    request, call = request_of(application, path), application.span("GET")
    assert (trace_id(request), parent_id(request)) == (TRACE, CALLER)
    start = log.one("agent_start")
    assert (start.data.trace_id, start.data.parent_span_id, start.data.sampled) == (TRACE, span_id(request), True)
    tool = log.one("tool_start")
    assert (trace_id(call), parent_id(call)) == (TRACE, begun_by(tool))
    assert log.one("tool_end").data.result == f"00-{TRACE}-{span_id(call)}-01"


def test_a_client_that_leaves_a_stream_leaves_no_trace_in_the_next_request(
    web: httpx.Client, application: Application, log: SpanExporter
) -> None:
    with web.stream("GET", "/events") as response:
        next(response.iter_lines())
    until(lambda: log.sidecar.stats().runs_in_progress == 0)
    other = "00-" + "c" * 32 + "-" + "d" * 16 + "-01"
    web.get("/run", headers={"traceparent": other})
    log.sidecar.flush()
    second = log.of("agent_start")[-1]
    assert second.data.trace_id == "c" * 32
    assert second.data.parent_span_id == span_id(request_of(application, "/run"))


def test_a_trace_that_the_client_lets_go_is_not_sampled_further_on(
    web: httpx.Client, application: Application, log: SpanExporter
) -> None:
    web.get("/run", headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
    assert log.one("agent_start").data.sampled is False
    assert str(log.one("tool_end").data.result).endswith("-00")
    assert application.spans == ()
