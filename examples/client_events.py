"""Events for a client's user interface, one JSON line each: start, text, tool calls and results, end or error.

Tool calls come from pydantic-ai's own events, without parsing the text.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from offline import model
from pydantic_ai import Agent
from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolCallPart,
)

from sidestream import Sidecar

agent = Agent(model(ToolCallPart("weather", {"city": "Oslo"}), "Take an umbrella."), name="assistant")


@agent.tool_plain
def weather(city: str) -> str:
    """Get the weather of a city."""
    return f"rain in {city}"


async def client_events(prompt: str) -> AsyncIterator[dict[str, Any]]:
    yield {"event": "start"}
    try:
        async with agent.run_stream_events(prompt) as events:
            async for event in events:
                match event:
                    case PartStartEvent(part=TextPart(content=text)) if text:
                        yield {"event": "text", "text": text}
                    case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                        yield {"event": "text", "text": text}
                    case FunctionToolCallEvent(part=call):
                        yield {"event": "tool_start", "tool": call.tool_name, "args": call.args_as_dict()}
                    case FunctionToolResultEvent(part=result):
                        yield {"event": "tool_end", "tool": result.tool_name, "result": result.content}
    except Exception as error:
        yield {"event": "error", "error": str(error)}
        raise
    yield {"event": "end"}


async def main() -> None:
    async for event in client_events("Do I need an umbrella in Oslo?"):
        print(json.dumps(event))


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
