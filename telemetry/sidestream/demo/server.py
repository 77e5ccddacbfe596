"""A model for the demo: a small HTTP server on 127.0.0.1 that speaks OpenAI's chat completions.

It streams (or not, as asked) at a human pace, with tool calls, usage, errors before and during the stream, and lost
connections. What it says is decided by the messages alone: the same conversation always gets the same answer.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Any, Literal, TypeAlias

Message: TypeAlias = dict[str, Any]

REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error"}
MAX_BODY = 10_000_000
"""Bytes of a request body beyond which the server does not listen."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer of the model: text, tool calls, or both."""

    text: str = ""
    calls: Sequence[tuple[str, dict[str, Any]]] = ()
    """Tool name and arguments of each call."""
    thinking: float = 0.6
    """Seconds before the first chunk."""
    reasoning_tokens: int = 0
    failure: Literal["status", "error", "drop"] | None = None
    """`status`: HTTP 500 instead of an answer; `error`: an error object half-way through the stream; `drop`: the
    connection is lost there. (Both are an HTTP 500 where nothing is streamed.)"""


Script: TypeAlias = Callable[[Sequence[Message]], Reply]
"""Decides the answer from the messages of the request."""


class BadRequest(Exception):
    """A request the server cannot answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class ModelServer:
    """Serves `script` while it is entered; `base_url` is what an OpenAI client needs.

    `speed` divides all waiting: 1 is a human pace, 50 is for tests.
    """

    script: Script
    speed: float = 1.0
    seconds_per_piece: float = 0.035
    base_url: str = field(default="", init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _ids: Any = field(default_factory=count, init=False)

    async def __aenter__(self) -> ModelServer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- HTTP ---

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            try:
                request = await _read_request(reader)
                await self._answer(request, writer)
            except BadRequest as bad:
                await _send_json(writer, bad.status, _error(str(bad), "invalid_request_error"))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left: some runs of the demo are about that
        finally:
            writer.close()

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        messages: list[Message] = request["messages"]
        reply = self.script(messages)
        envelope = {
            "id": f"chatcmpl-demo-{next(self._ids)}",
            "created": int(time.time()),
            "model": request["model"],
        }
        usage = _usage(request, reply)
        await self._sleep(reply.thinking)
        streaming = bool(request.get("stream"))
        if reply.failure == "status" or (reply.failure and not streaming):
            await _send_json(writer, 500, _error("The server had an error while processing your request."))
        elif streaming:
            wants_usage = (request.get("stream_options") or {}).get("include_usage", False)
            await self._stream(writer, envelope, reply, usage if wants_usage else None)
        else:
            await self._sleep(self.seconds_per_piece * len(_pieces(reply)))
            choice = {"index": 0, "message": _message(reply, envelope["id"]), "finish_reason": _finish_reason(reply)}
            body = {**envelope, "object": "chat.completion", "choices": [choice], "usage": usage}
            await _send_json(writer, 200, body)

    async def _stream(
        self,
        writer: asyncio.StreamWriter,
        envelope: dict[str, Any],
        reply: Reply,
        usage: dict[str, Any] | None,
    ) -> None:
        """Send `reply` as server-sent events, in chunked encoding, so that a client can tell an end from a loss."""
        writer.write(_head(200, "text/event-stream", "Transfer-Encoding: chunked"))
        pieces = _pieces(reply, envelope["id"])
        for delta in [{"role": "assistant", "content": ""}, *pieces[: len(pieces) // 2 if reply.failure else None]]:
            await _send_chunk(writer, envelope, [{"index": 0, "delta": delta, "finish_reason": None}])
            await self._sleep(self.seconds_per_piece)
        if reply.failure == "error":
            await _send_event(writer, json.dumps(_error("The model is overloaded, please try again later.")))
        if reply.failure:
            return
        await _send_chunk(writer, envelope, [{"index": 0, "delta": {}, "finish_reason": _finish_reason(reply)}])
        if usage is not None:
            await _send_chunk(writer, envelope, [], usage=usage)
        await _send_event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


async def _read_request(reader: asyncio.StreamReader) -> dict[str, Any]:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.LimitOverrunError:
        raise BadRequest(400, "the request's head is too long") from None
    request_line, *lines = head.split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if request_line.split(" ")[:2] != ["POST", "/v1/chat/completions"]:
        raise BadRequest(404, f"there is only POST /v1/chat/completions here, not {request_line!r}")
    length = headers.get("content-length", "")
    if not length.isascii() or not length.isdigit() or int(length) > MAX_BODY:
        raise BadRequest(400, f"a Content-Length of at most {MAX_BODY} bytes is needed")
    try:
        request = json.loads(await reader.readexactly(int(length)))
    except ValueError:
        raise BadRequest(400, "the body is not JSON") from None
    match request:
        case {"model": str(), "messages": [dict(), *_]}:
            return dict(request)
        case _:
            raise BadRequest(400, "`model` and `messages` are needed")


def _head(status: int, content_type: str, *headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {REASONS[status]}",
        f"Content-Type: {content_type}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def _send_json(writer: asyncio.StreamWriter, status: int, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    writer.write(_head(status, "application/json", f"Content-Length: {len(content)}") + content)
    await writer.drain()


async def _send_chunk(
    writer: asyncio.StreamWriter, envelope: dict[str, Any], choices: list[dict[str, Any]], **extra: Any
) -> None:
    chunk = {**envelope, "object": "chat.completion.chunk", "choices": choices, **extra}
    await _send_event(writer, json.dumps(chunk))


async def _send_event(writer: asyncio.StreamWriter, data: str) -> None:
    event = f"data: {data}\n\n".encode()
    writer.write(b"%x\r\n%s\r\n" % (len(event), event))
    await writer.drain()


# --- the protocol's bodies -----------------------------------------------------------------------------------------


def _error(message: str, kind: str = "server_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _finish_reason(reply: Reply) -> str:
    return "tool_calls" if reply.calls else "stop"


def _calls(reply: Reply, response_id: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{response_id.rpartition('-')[2]}_{index}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(args)},
        }
        for index, (name, args) in enumerate(reply.calls)
    ]


def _message(reply: Reply, response_id: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    return {**message, "tool_calls": _calls(reply, response_id)} if reply.calls else message


def _pieces(reply: Reply, response_id: str = "") -> list[dict[str, Any]]:
    """The deltas of a stream: words of the text, then each call's name followed by its arguments in bits."""
    pieces: list[dict[str, Any]] = [{"content": word} for word in re.findall(r"\s*\S+", reply.text)]
    for index, call in enumerate(_calls(reply, response_id)):
        arguments = call["function"]["arguments"]
        opening = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        bits = [{"index": index, "function": {"arguments": bit}} for bit in re.findall(r"(?s).{1,6}", arguments)]
        pieces += [{"tool_calls": [part]} for part in (opening, *bits)]
    return pieces


def _usage(request: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """Tokens: four characters of a prompt make one, and so does each piece of an answer.

    What the model was sent before its last answer comes from the cache, in blocks of 64.
    """
    messages: list[Message] = request["messages"]
    answers = [index for index, message in enumerate(messages) if message.get("role") == "assistant"]
    seen_before = [request.get("tools"), messages[: answers[-1]]] if answers else []
    prompt = _tokens([request.get("tools"), messages])
    completion = len(_pieces(reply)) + reply.reasoning_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": _tokens(seen_before) // 64 * 64, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens, "audio_tokens": 0},
    }


def _tokens(value: object) -> int:
    return len(json.dumps(value)) // 4
