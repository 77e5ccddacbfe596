"""Command line with a live panel: text, tool calls and tokens so far."""

import asyncio

from offline import model
from pydantic_ai import Agent
from pydantic_ai.messages import ToolCallPart
from rich.console import Console, Group
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from sidestream import StreamEventType, run_stream

ANSWER = "# Result\n\nThere are **three** files: one, two, and three."

agent = Agent(model(ToolCallPart("list_files", {}), ANSWER), name="assistant")


@agent.tool_plain
def list_files() -> list[str]:
    """List the files of the folder."""
    return ["one", "two", "three"]


async def main() -> None:
    text, status = "", "waiting for the model"
    with Live(console=Console(), refresh_per_second=10) as live:
        async for event in run_stream(agent, "Which files are there?"):
            match event.event_type:
                case StreamEventType.LLM_CHUNK:
                    text += event.data["text"]
                case StreamEventType.TOOL_START:
                    status = f"calling {event.data['tool_name']}"
                case StreamEventType.PROGRESS:
                    status = f"{event.data['total_tokens']} tokens"
                case StreamEventType.AGENT_END:
                    status = f"done in {event.data['duration_seconds']:.1f} s"
            live.update(Group(Markdown(text), Text(status, style="cyan")))


asyncio.run(main())
