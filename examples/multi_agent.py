"""Sub-agent called by a tool: its run is a child of the tool call in the log, and its cost counts once."""

import os

from pydantic_ai import Agent

from sidestream import Sidecar

researcher = Agent(os.environ.get("MODEL", "test"), name="researcher")
editor = Agent(os.environ.get("MODEL", "test"), name="editor")


@editor.tool_plain
async def research(topic: str) -> str:
    """Ask the researcher."""
    return (await researcher.run(f"Find out about {topic}")).output


with Sidecar("console", "jsonl:runs/") as sidecar:
    sidecar.observe(researcher)
    sidecar.observe(editor)
    print(editor.run_sync("Write about sidecars").output)
