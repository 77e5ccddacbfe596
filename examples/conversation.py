"""Conversation: each run gets the message history of the runs before, and the log groups runs by `conversation_id`.

Pitfall: with `stream_text(delta=True)`, the history is complete only after the stream has been read to its end.
"""

import asyncio
import os

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage

from sidestream import Sidecar

agent = Agent(os.environ.get("MODEL", "test"), name="chat")


async def main() -> None:
    history: list[ModelMessage] = []
    for question in ("What is a sidecar?", "And who drives it?"):
        async with agent.run_stream(question, message_history=history, conversation_id="c-42") as result:
            async for delta in result.stream_text(delta=True):
                print(delta, end="", flush=True)
            history = result.all_messages()
        print(f"   ({len(history)} messages)")


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
