"""Actions of callers, and of other tasks, in the middle of a run."""

from __future__ import annotations

import asyncio

from tests.support.scripted_model import FOREVER, Scene


class CallerError(Exception):
    """Error raised by the caller, in the body of its own loop."""


async def breaks(scene: Scene) -> bool:
    return True


async def raises(scene: Scene) -> None:
    raise CallerError("the caller's own")


async def breaks_while_stuck(scene: Scene) -> bool:
    await scene.until_stuck()
    return True


async def raises_while_stuck(scene: Scene) -> None:
    await scene.until_stuck()
    raise CallerError("the caller's own")


async def is_cancelled(scene: Scene) -> None:
    assert scene.task is not None
    scene.task.cancel()
    await asyncio.sleep(FOREVER)


async def cancels_when_stuck(scene: Scene) -> None:
    await scene.until_stuck()
    assert scene.task is not None
    scene.task.cancel()


async def cancels_at_once(scene: Scene) -> None:
    assert scene.task is not None
    scene.task.cancel()
