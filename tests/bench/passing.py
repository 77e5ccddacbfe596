"""Capability with the same hooks as Sidestream's, which do nothing: the cost of a capability's presence."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, ClassVar

from pydantic_ai.capabilities import AbstractCapability

from sidestream.sources.pydantic_ai.capability import Observer


class _Hooks(AbstractCapability[Any]):
    """Hooks of Sidestream's capability that return their arguments unchanged."""

    async def wrap_run(self, ctx: Any, *, handler: Any) -> Any:
        return await handler()

    async def on_run_error(self, ctx: Any, *, error: BaseException) -> Any:
        raise error

    async def wrap_model_request(self, ctx: Any, *, request_context: Any, handler: Any) -> Any:
        return await handler(request_context)

    def wrap_run_event_stream(self, ctx: Any, *, stream: AsyncIterable[Any]) -> AsyncIterable[Any]:
        return _passed(stream)

    async def wrap_tool_validate(self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any) -> Any:
        return await handler(args)

    async def wrap_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any) -> Any:
        return await handler(args)

    async def wrap_output_validate(self, ctx: Any, *, output_context: Any, output: Any, handler: Any) -> Any:
        return await handler(output)

    async def wrap_output_process(self, ctx: Any, *, output_context: Any, output: Any, handler: Any) -> Any:
        return await handler(output)


HOOKS = [name for name in vars(_Hooks) if name.startswith(("wrap_", "on_"))]


class _Passive(AbstractCapability[Any]):
    """Capability that neither listens to events nor wraps the stream, and serves all runs itself."""

    id: str | None = "pass-through"
    _safe_at_runtime: ClassVar[bool] = True

    @property
    def has_wrap_run_event_stream(self) -> bool:
        return False

    def listens_to(self, event: Any) -> bool:
        return False

    async def for_run(self, ctx: Any) -> AbstractCapability[Any]:
        return self


PassThrough: type[AbstractCapability[Any]] = type(
    "PassThrough", (_Passive,), {name: vars(_Hooks)[name] for name in HOOKS if name in vars(Observer)}
)
"""Class with exactly the hooks of `Observer`, since each hook costs time in pydantic-ai."""


async def _passed(stream: AsyncIterable[Any]) -> AsyncIterator[Any]:
    iterator = stream.__aiter__()
    try:
        async for event in iterator:
            yield event
    finally:
        aclose = getattr(iterator, "aclose", None)
        if aclose is not None:
            await aclose()
