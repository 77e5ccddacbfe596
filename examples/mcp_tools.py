"""Tools of an MCP server that runs as a subprocess (stdio): MCP calls are logged as tool calls of the run."""

import asyncio
from pathlib import Path

from offline import model
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ToolCallPart

from sidestream import Sidecar

agent = Agent(
    model(ToolCallPart("create_file", {"name": "hello.txt"}), "The file is there."),
    name="clerk",
    toolsets=[MCPToolset(Path(__file__).with_name("mcp_server.py"), init_timeout=60)],
)


async def main() -> None:
    async with agent, agent.run_stream("Create a file called hello.txt") as result:
        async for delta in result.stream_text(delta=True, debounce_by=None):
            print(delta, end="", flush=True)
    print()


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
