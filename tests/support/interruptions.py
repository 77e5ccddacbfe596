"""Interruption of a consumer in the middle of its stream, by cancellation or by a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Interrupt = Callable[[], Coroutine[Any, Any, None]]
"""Awaited by the consumer at the point of its interruption; never returns."""


async def interrupted(consume: Callable[[Interrupt], Awaitable[None]], *, by_limit: bool) -> None:
    """Run `consume`. Raises `TimeoutError` if `by_limit`, else `CancelledError`."""
    task = asyncio.current_task()
    assert task is not None
    async with asyncio.timeout(None) as limit:

        async def interrupt() -> None:
            if by_limit:
                limit.reschedule(0)
            else:
                task.cancel()
            await asyncio.Event().wait()

        await consume(interrupt)
