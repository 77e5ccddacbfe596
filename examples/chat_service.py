"""A chat service: server-sent events and a WebSocket, one sidecar for the life of the server.

`uvicorn examples.chat_service:app`, then `curl -N 'http://127.0.0.1:8000/chat/c-1?message=Hello'`.
A client that leaves ends its run, which is `cancelled` or `abandoned` in the log.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage

from sidestream import Sidecar

sidecar = Sidecar("jsonl:runs/")
agent = sidecar.observe(Agent(os.environ.get("MODEL", "test"), name="chat"))
histories: dict[str, list[ModelMessage]] = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with sidecar:
        yield


app = FastAPI(lifespan=lifespan)


async def answer(session: str, message: str) -> AsyncIterator[str]:
    async with agent.run_stream(message, message_history=histories.get(session), conversation_id=session) as result:
        async for delta in result.stream_text(delta=True):
            yield delta
        histories[session] = result.all_messages()


@app.get("/chat/{session}")
async def chat(session: str, message: str) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        async for delta in answer(session, message):
            yield f"data: {json.dumps({'delta': delta})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.websocket("/ws/{session}")
async def socket(websocket: WebSocket, session: str) -> None:
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive_text()
            async for delta in answer(session, message):
                await websocket.send_text(delta)
            await websocket.send_json({"type": "done"})
    except WebSocketDisconnect:
        pass
