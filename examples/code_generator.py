"""Code generator: shows the code while it streams, then the validated output."""

import asyncio

from offline import model
from pydantic import BaseModel
from pydantic_ai import Agent

from sidestream import Sidecar


class Snippet(BaseModel):
    language: str = ""
    code: str = ""
    explanation: str = ""
    dependencies: list[str] = []


SNIPPET = {
    "language": "python",
    "code": "import httpx\n\n\ndef fetch(url: str) -> dict:\n    return httpx.get(url).raise_for_status().json()",
    "explanation": "Asks the API and raises for a status that is an error.",
    "dependencies": ["httpx"],
}

agent = Agent(model(SNIPPET), name="coder", output_type=Snippet, instructions="You write clean code.")


async def main() -> None:
    shown = 0
    async with agent.run_stream("A function that fetches data from a REST API") as result:
        async for partial in result.stream_output(debounce_by=None):
            print(partial.code[shown:], end="", flush=True)
            shown = len(partial.code)
        snippet = await result.get_output()
    print(f"\n\n{snippet.explanation}")
    for dependency in snippet.dependencies:
        print(f"needs {dependency}")


with Sidecar("jsonl:runs/") as sidecar:
    sidecar.observe(agent)
    asyncio.run(main())
