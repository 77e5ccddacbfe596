"""Streaming functions: text, tool calls and progress in one loop, for any agent, observed or not.

The example also writes each event to a file: `event.data` is a mapping that `json.dumps` accepts.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import TextIO

from pydantic_ai import Agent

from sidestream import StreamEventType, collect_stream_result, run_stream, stream_text, stream_tool_calls

agent = Agent(os.environ.get("MODEL", "test"), name="assistant")


@agent.tool_plain
def read_file(path: str) -> str:
    """Read a file."""
    return f"what is in {path}"


async def main(file: TextIO) -> None:
    async for event in run_stream(agent, "What is in notes.txt?"):
        entry = {"event_type": event.event_type, "timestamp": event.timestamp.isoformat(), "data": event.data}
        file.write(json.dumps(entry) + "\n")
        if event.event_type == StreamEventType.LLM_CHUNK:
            print(event.data["text"], end="", flush=True)
        elif event.event_type == StreamEventType.TOOL_START:
            print(f"[calling {event.data['tool_name']}]")
        elif event.event_type == StreamEventType.AGENT_END:
            print(f"\n[done in {event.data['duration_seconds']:.1f} s]")
    async for text in stream_text(agent, "Hello"):
        print(text, end="", flush=True)
    print()
    async for tool_name, args, result in stream_tool_calls(agent, "Read it again"):
        print(f"{tool_name}({args})" if result is None else f"  -> {result}")
    result, events = await collect_stream_result(agent, "And once more")
    print(f"{result.output!r} after {len(events)} events")


with Path("events.jsonl").open("a") as file:
    asyncio.run(main(file))
