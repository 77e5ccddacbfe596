"""Model server of the demo: OpenAI's chat completions on 127.0.0.1.

Supports streaming at a human pace, tool calls, usage, errors before and during the stream, and lost connections. The
reply depends on the messages only: equal conversations get equal replies.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .reply import Message, Reply, Script

OFF = 100
"""Log level above all others: uvicorn would log the lost connections that the demo provokes."""


class ConnectionLost(Exception):
    """Exception raised within a stream to make uvicorn close the connection in the middle of the answer."""


class _Server(uvicorn.Server):
    """Server that leaves the signal handlers of the program alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class ModelServer:
    """Server of `script`, running within its `async with` block; `base_url` is the address for an OpenAI client.

    `speed` divides all delays: 1 is a human pace.
    """

    script: Script
    speed: float = 1.0
    seconds_per_piece: float = 0.035
    base_url: str = field(default="", init=False)
    _ids: Any = field(default_factory=count, init=False)

    async def __aenter__(self) -> ModelServer:
        app = Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])
        config = uvicorn.Config(
            app, log_config=None, log_level=OFF, access_log=False, lifespan="off", timeout_graceful_shutdown=0
        )
        listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        await self._serving

    async def _answer(self, request: Request) -> Response:
        try:
            asked = await request.json()
        except ValueError:
            return JSONResponse(_error("the body is not JSON", "invalid_request_error"), 400)
        match asked:
            case {"model": str(), "messages": [dict(), *_]}:
                return await self._reply(asked)
            case _:
                return JSONResponse(_error("`model` and `messages` are needed", "invalid_request_error"), 400)

    async def _reply(self, request: dict[str, Any]) -> Response:
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
            return JSONResponse(_error("The server had an error while processing your request."), 500)
        if streaming:
            wants_usage = (request.get("stream_options") or {}).get("include_usage", False)
            stream = self._stream(envelope, reply, usage if wants_usage else None)
            return StreamingResponse(stream, media_type="text/event-stream")
        await self._sleep(self.seconds_per_piece * len(_pieces(reply)))
        choice = {"index": 0, "message": _message(reply, envelope["id"]), "finish_reason": _finish_reason(reply)}
        return JSONResponse({**envelope, "object": "chat.completion", "choices": [choice], "usage": usage})

    async def _stream(self, envelope: dict[str, Any], reply: Reply, usage: dict[str, Any] | None) -> AsyncIterator[str]:
        """`reply` as server-sent events."""

        def chunk(choices: list[dict[str, Any]], **extra: Any) -> str:
            return _event(json.dumps({**envelope, "object": "chat.completion.chunk", "choices": choices, **extra}))

        pieces = _pieces(reply, envelope["id"])
        for delta in [{"role": "assistant", "content": ""}, *pieces[: len(pieces) // 2 if reply.failure else None]]:
            yield chunk([{"index": 0, "delta": delta, "finish_reason": None}])
            await self._sleep(self.seconds_per_piece)
        if reply.failure == "error":
            yield _event(json.dumps(_error("The model is overloaded, please try again later.")))
            return
        if reply.failure:
            raise ConnectionLost
        yield chunk([{"index": 0, "delta": {}, "finish_reason": _finish_reason(reply)}])
        if usage is not None:
            yield chunk([], usage=usage)
        yield _event("[DONE]")

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


def _event(data: str) -> str:
    return f"data: {data}\n\n"


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
    """Deltas of a stream: words of the text, then each call's name followed by its arguments in short pieces."""
    pieces: list[dict[str, Any]] = [{"content": word} for word in re.findall(r"\s*\S+", reply.text)]
    for index, call in enumerate(_calls(reply, response_id)):
        arguments = call["function"]["arguments"]
        opening = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        bits = [{"index": index, "function": {"arguments": bit}} for bit in re.findall(r"(?s).{1,6}", arguments)]
        pieces += [{"tool_calls": [part]} for part in (opening, *bits)]
    return pieces


def _usage(request: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """Token usage: one token per four characters of the tools and messages, and one per delta of the answer.

    Reasoning tokens come from the reply. The tools, and the messages before the previous answer, count as cached, in
    blocks of 64 tokens.
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
