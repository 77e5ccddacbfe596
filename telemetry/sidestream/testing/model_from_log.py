"""Model that answers from a log: repeats a logged run offline, without an API key, for example in a debugger.

model = ModelFromLog("runs/", run="b855")
with model.override(agent):
    agent.run_sync("the same prompt")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from pydantic_ai import ModelRetry
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import CallDeferred, SkipToolExecution
from pydantic_ai.messages import CompactionPart, ModelResponse
from pydantic_ai.models import Model, StreamedResponse
from pydantic_ai.native_tools import SUPPORTED_NATIVE_TOOLS

from sidestream.errors import ConfigurationError
from sidestream.log.files import Paths
from sidestream.recording.snapshot import snapshot
from sidestream.sources.pydantic_ai import attach, compat, convert, outgoing

from .answers import args_of, details_of, error_of, known_of, other_part, response_of, tool_call, usage_of, whole_part
from .differences import RequestDiffers, check
from .logged_runs import LoggedRequest, LoggedRun, LoggedRuns, Piece

Pace: TypeAlias = Literal["logged", "at once"]
Tools: TypeAlias = Literal["run", "logged"]

CANCEL_SECONDS = 10.0
"""Longest wait of a cancelled tool call for the failure that cancels it."""


class ModelFromLog(Model):
    """Model that gives each request its logged response.

    As an agent's model, it answers the requests of that agent, streamed as in the log. `override()` also covers
    sub-agents, and with `tools="logged"` the results of tools.

    Args:
        paths: Paths of the log.
        run: Run to repeat: its id, the beginning or end of the id, or its trace id. None for all runs of the log; each
            is repeated by one run of the same agent, preferably with an equal prompt.
        strict: Whether a request that differs from the logged one raises `RequestDiffers`.
        pace: `logged` replays the original delays of the deltas; `at once` does not wait.
        tools: `logged` takes tool results from the log (with `override()` only); `run` executes the tools.

    Raises:
        ConfigurationError: The run is not in the log, or an option is invalid.
    """

    def __init__(
        self,
        paths: Paths = "runs/",
        *,
        run: str | None,
        strict: bool = True,
        pace: Pace = "at once",
        tools: Tools = "run",
    ) -> None:
        for name, value, choices in (("pace", pace, ("logged", "at once")), ("tools", tools, ("run", "logged"))):
            if value not in choices:
                raise ConfigurationError(f"ModelFromLog: {name}={value!r}: choose {' or '.join(choices)}")
        self._runs = LoggedRuns(paths, run)
        self._strict = strict
        self._paced = pace == "logged"
        self._tools = tools
        first = next((step for step in self._runs.root.log.steps if step.kind == "request"), None)
        self._name = (first.name if first else None) or "logged"
        self._provider_name = (first.provider if first else None) or "logged"
        super().__init__(profile=_profile(self._provider_name, self._name))

    # --- for agents ---

    @contextmanager
    def override(self, *agents: Any) -> Iterator[ModelFromLog]:
        """Answer the requests of `agents` from the log within the block; with `tools="logged"` also their tool calls.

        Args:
            agents: All agents of the run, sub-agents included.

        Raises:
            ConfigurationError: An argument is not a pydantic-ai agent.
        """
        capability = FromLog(self)
        with ExitStack() as stack:
            for agent in agents:
                attach.change_capabilities(agent, lambda present: [*present, capability])
                stack.callback(
                    attach.change_capabilities,
                    agent,
                    lambda present: [each for each in present if each is not capability],
                )
            yield self

    # --- as a model ---

    @property
    def model_name(self) -> str:
        return self._name

    @property
    def system(self) -> str:
        return self._provider_name

    @classmethod
    def supported_native_tools(cls) -> frozenset[Any]:
        return frozenset(SUPPORTED_NATIVE_TOOLS)

    async def request(self, messages: list[Any], model_settings: Any, model_request_parameters: Any) -> ModelResponse:
        logged = self._next(compat.current_run_context(), messages, model_request_parameters)
        if self._paced and logged.step.duration_seconds:
            await asyncio.sleep(logged.step.duration_seconds)
        self._raise_if_it_failed(logged)
        return response_of(logged, [whole_part(logged, place, part) for place, part in enumerate(logged.step.parts)])

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[Any],
        model_settings: Any,
        model_request_parameters: Any,
        run_context: Any = None,
    ) -> AsyncIterator[StreamedResponse]:
        logged = self._next(run_context or compat.current_run_context(), messages, model_request_parameters)
        if not logged.step.parts:  # the request failed before its first delta
            self._raise_if_it_failed(logged)
        _, parameters = self.prepare_request(model_settings, model_request_parameters)
        yield _LoggedResponse(parameters, logged, self._paced)

    def logged_run(self, context: Any) -> LoggedRun:
        """Logged run for the run of `context`. Raises `RequestDiffers` if none is left."""
        if context is None:
            return self._runs.of("", None, None)
        name = context.agent.name if context.agent is not None else None
        return self._runs.of(context.run_id or "", name, snapshot(context.prompt))

    def _next(self, context: Any, messages: Sequence[Any], parameters: Any) -> LoggedRequest:
        run = self.logged_run(context)
        request = run.next_request()
        number, end = request.number, request.end
        if run.log.prompt is None and not request.step.parts and end is not None and end.outcome == "ok":
            raise ConfigurationError(f"{run.name}: the log was written without content, so it cannot answer")
        if number == 1:
            run.system_prompts = convert.system_prompts(
                messages, (context.run_id if context is not None else None) or ""
            )
        if self._strict:
            if request.step.sent is None or request.step.sent.messages is None or not run.messages(number):
                raise ConfigurationError(
                    f"{run.name}: the log does not hold what was sent (an older log, or one without content); "
                    "strict=False answers all the same"
                )
            check(
                number,
                run.messages(number),
                [outgoing.plain_message(message) for message in messages],
                run.in_force(number, "tools"),
                snapshot(outgoing.tool_definitions(parameters)),
                run.in_force(number, "instructions"),
                convert.instructions(messages, run.system_prompts),
            )
        return request

    def _raise_if_it_failed(self, logged: LoggedRequest) -> None:
        end = logged.end
        if end is not None and end.outcome == "error":
            raise error_of(end.exception_type, end.error)

    # --- for `FromLog` ---

    async def tool_result(self, context: Any, call: Any) -> tuple[bool, Any]:
        """Whether the result of `call` comes from the log, and the result.

        A call that was cancelled because another call failed waits to be cancelled again: an exception of its own could
        end the run before the failed call does.

        Raises:
            RequestDiffers: The log has no such call.
            Exception: The logged call ended with an exception, which is raised again.
        """
        if self._tools != "logged":
            return False, None
        run = self.logged_run(context)
        end = run.tool_end(call.tool_call_id)
        if end is None:
            raise RequestDiffers(f"{run.name} has no call {call.tool_call_id!r} of the tool {call.tool_name!r}")
        match end.outcome:
            case "ok":
                return True, end.result
            case "skipped":
                raise SkipToolExecution(end.result)
            case "retry":
                raise ModelRetry(run.retry_of(call.tool_call_id) or str(end.error))
            case "deferred":
                raise CallDeferred
            case "cancelled" if run.has_failed_call():
                await asyncio.sleep(CANCEL_SECONDS)
        raise error_of(end.exception_type, end.error)


class FromLog(AbstractCapability[Any]):
    """Capability that replaces an agent's model by a `ModelFromLog`, and takes tool results from the log."""

    def __init__(self, model: ModelFromLog) -> None:
        self.id = "sidestream-from-log"
        self._model = model

    @classmethod
    def get_serialization_name(cls) -> str | None:
        return None

    async def before_model_request(self, ctx: Any, request_context: Any) -> Any:
        request_context.model = self._model
        return request_context

    async def wrap_tool_execute(
        self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Callable[[Any], Any]
    ) -> Any:
        known, result = await self._model.tool_result(ctx, call)
        return result if known else await handler(args)


class _LoggedResponse(StreamedResponse):
    """Streamed response with the logged deltas."""

    def __init__(self, parameters: Any, logged: LoggedRequest, paced: bool) -> None:
        super().__init__(model_request_parameters=parameters)
        self._logged = logged
        self._paced = paced
        self._at = datetime.now(UTC)

    async def _get_event_iterator(self) -> AsyncIterator[Any]:
        logged, loop = self._logged, asyncio.get_running_loop()
        begun = loop.time()
        empty = logged.begins_empty()
        for at, piece in logged.pieces():
            await asyncio.sleep(max(0.0, at - (loop.time() - begun)) if self._paced else 0)
            for event in self._piece(piece, piece.place in empty):
                yield event
        for place, part in enumerate(logged.step.parts):
            if not part.deltas:
                for event in self._piece(Piece(place, part, "", True, True), place in empty):
                    yield event
        end = logged.end
        if end is None:
            raise ConfigurationError(f"{logged.run.name}: the log ends within request {logged.number}")
        self._usage = usage_of(end)
        self.provider_response_id, self.provider_details = end.response_id, details_of(end)
        self.finish_reason = end.finish_reason  # type: ignore[assignment]
        if end.outcome == "error":
            raise error_of(end.exception_type, end.error)
        if end.outcome in ("cancelled", "interrupted"):
            raise RequestDiffers(
                f"{logged.run.name}: the consumer of request {logged.number} left here, and this run reads on"
            )

    def _piece(self, piece: Piece, begins_empty: bool) -> Iterator[Any]:
        manager, part, place, text = self._parts_manager, piece.part, piece.place, piece.text
        details = self._logged.step.part_details.get(part.index or 0, {})
        known = known_of(details) if piece.first else {}
        match part.kind:
            case "text":
                if piece.first and begins_empty:
                    yield from manager.handle_text_delta(vendor_part_id=place, content="", **known)
                yield from manager.handle_text_delta(vendor_part_id=place, content=text, **known)
            case "thinking":
                # The signature is the last delta of a thinking part, and has no text.
                signature = details.get("signature") if piece.last and not text else None
                if piece.first and begins_empty:
                    yield from manager.handle_thinking_delta(vendor_part_id=place, content="", **known)
                yield from manager.handle_thinking_delta(
                    vendor_part_id=place, content=text or None if signature else text, signature=signature, **known
                )
            case "tool_call" if piece.first:
                call = tool_call(self._logged, part, None if begins_empty else args_of(details, text), known)
                yield manager.handle_tool_call_part(
                    vendor_part_id=place,
                    tool_name=call.tool_name,
                    args=call.args,
                    tool_call_id=call.tool_call_id,
                    **known,
                )
                if begins_empty and part.deltas:
                    yield from self._more_args(place, text)
            case "tool_call":
                yield from self._more_args(place, text)
            case _:
                if begins_empty:
                    yield manager.handle_part(vendor_part_id=place, part=CompactionPart(**known))
                yield manager.handle_part(vendor_part_id=place, part=other_part(self._logged, part, known_of(details)))

    def _more_args(self, place: int, text: str) -> Iterator[Any]:
        event = self._parts_manager.handle_tool_call_delta(vendor_part_id=place, args=text)
        if event is not None:
            yield event

    async def close_stream(self) -> None:
        pass

    @property
    def model_name(self) -> str:
        end = self._logged.end
        return (end.response_model or end.model if end else None) or self._logged.step.name

    @property
    def provider_name(self) -> str | None:
        return self._logged.end.provider if self._logged.end else self._logged.step.provider

    @property
    def provider_url(self) -> str | None:
        return None

    @property
    def timestamp(self) -> datetime:
        return self._at


def _profile(provider: str, model: str) -> Any:
    """pydantic-ai's profile of the logged model, so that requests are prepared as originally; None if unknown."""
    try:
        from pydantic_ai.providers import infer_provider_class

        return infer_provider_class(provider).model_profile(model)
    except Exception:  # an unknown provider, or a provider whose client is not installed
        return None
