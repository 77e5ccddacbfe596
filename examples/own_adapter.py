"""Custom stream: a short adapter function maps its items to events."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from sidestream import Sidecar, log


async def provider() -> AsyncIterator[dict[str, Any]]:
    for word in ("Any ", "stream ", "will ", "do."):
        await asyncio.sleep(0.01)
        yield {"type": "token", "text": word}


def tokens(item: Any, record: Any) -> None:
    if item["type"] == "token":
        record.text(item["text"])


async def main() -> None:
    async for item in sidecar.tap(provider, agent_name="writer", model="my-model", adapter=tokens):
        print(item["text"], end="", flush=True)
    print()


with Sidecar("jsonl:runs/") as sidecar:
    asyncio.run(main())

[run] = log.runs("runs/")
print(run.agent_name, run.outcome)
