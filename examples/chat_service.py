"""Chat service: sessions in SQLite, agents by name, answers as server-sent events or over WebSocket, with heartbeats.

`uvicorn chat_service:app`, then `curl -N 'http://127.0.0.1:8000/chat/c-1?message=Hello'`. A client that disconnects
ends its run, which is `cancelled` or `abandoned` in the log. A slow client slows its run down, since each send waits.
"""

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache

import anyio
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter

from sidestream import Sidecar

HEARTBEAT_SECONDS = float(os.environ.get("HEARTBEAT_SECONDS", "15"))
INSTRUCTIONS = {"helper": "You help.", "poet": "You answer in verse."}

sidecar = Sidecar("jsonl:runs/")


class Sessions:
    """Messages of each session, stored as one JSON text per run."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("CREATE TABLE IF NOT EXISTS runs (session TEXT, messages BLOB)")

    def history(self, session: str) -> list[ModelMessage]:
        rows = self._database.execute("SELECT messages FROM runs WHERE session = ? ORDER BY rowid", [session])
        return [message for [run] in rows for message in ModelMessagesTypeAdapter.validate_json(run)]

    def add(self, session: str, messages: bytes) -> None:
        self._database.execute("INSERT INTO runs VALUES (?, ?)", [session, messages])


sessions = Sessions("chat.db")


@cache
def agent_named(name: str) -> Agent[None, str]:
    """Agent by name, created once; runs share no state, so one agent serves all sessions."""
    return sidecar.observe(Agent(os.environ.get("MODEL", "test"), name=name, instructions=INSTRUCTIONS[name]))


async def answer(name: str, session: str, message: str) -> AsyncIterator[str]:
    history = sessions.history(session)
    with sidecar.tags(channel="chat"):
        async with agent_named(name).run_stream(message, message_history=history, conversation_id=session) as result:
            async for delta in result.stream_text(delta=True, debounce_by=None):
                yield delta
            sessions.add(session, result.new_messages_json())


async def with_heartbeats(texts: AsyncIterator[str]) -> AsyncIterator[str | None]:
    """Items of `texts`, and None after `HEARTBEAT_SECONDS` without one, so that no proxy closes the connection."""
    sender, receiver = anyio.create_memory_object_stream[str](0)

    async def pull() -> None:
        async with sender:
            async for text in texts:
                await sender.send(text)

    pulling = asyncio.create_task(pull())
    try:
        while True:
            try:
                with anyio.fail_after(HEARTBEAT_SECONDS):
                    text = await receiver.receive()
            except TimeoutError:
                yield None
            except anyio.EndOfStream:
                break
            else:
                yield text
        await pulling
    finally:
        receiver.close()
        pulling.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(pulling, return_exceptions=True)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with sidecar:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/chat/{session}")
async def chat(session: str, message: str, agent: str = "helper") -> StreamingResponse:
    if agent not in INSTRUCTIONS:
        raise HTTPException(404, f"no agent {agent!r}; there are {', '.join(INSTRUCTIONS)}")

    async def events() -> AsyncIterator[str]:
        yield "event: start\ndata: {}\n\n"
        try:
            async for delta in with_heartbeats(answer(agent, session, message)):
                yield ": heartbeat\n\n" if delta is None else f"data: {json.dumps({'delta': delta})}\n\n"
        except Exception as error:
            yield f"event: error\ndata: {json.dumps({'error': type(error).__name__})}\n\n"
        else:
            yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.websocket("/ws/{session}")
async def socket(websocket: WebSocket, session: str) -> None:
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive_text()
            try:
                async for delta in with_heartbeats(answer("helper", session, message)):
                    await websocket.send_json({"type": "heartbeat"} if delta is None else {"delta": delta})
            except ConnectionError as error:
                await websocket.send_json({"type": "error", "error": type(error).__name__})
            else:
                await websocket.send_json({"type": "done"})
    except WebSocketDisconnect:
        pass
