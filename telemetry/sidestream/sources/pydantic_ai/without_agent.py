"""Model calls of pydantic-ai without an agent (`pydantic_ai.direct`), and the adapter for their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import ModuleType
from typing import Any

from pydantic_ai.messages import ModelResponse
from pydantic_ai.models.wrapper import WrapperModel

from sidestream.recording.failure import Failure
from sidestream.recording.pricing import Cost, Pricing, price_list_version
from sidestream.recording.recorder import safely
from sidestream.recording.request_recorder import monotonic_ns
from sidestream.sources.sdk.calls import ModelCall, Observation, RequestFacts
from sidestream.sources.sdk.patching import Patches
from sidestream.sources.sdk.whole import one_item
from sidestream.sources.tap.recorder import StreamRecorder

from . import convert
from .compat import wrap_event_iterator
from .event_streams import args_text


def patch_direct(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe `pydantic_ai.direct`, whose functions all obtain their model from `_prepare_model`."""

    def make(original: Any) -> Callable[..., Any]:
        def prepare_model(*args: Any, **kwargs: Any) -> Any:
            model = original(*args, **kwargs)
            return ObservedModel(model, observation) if observation.active else model

        return prepare_model

    patches.wrap(module, "_prepare_model", make)


class ObservedModel(WrapperModel):
    """Model whose requests are recorded. Lives for one call of `pydantic_ai.direct`, and is not exposed."""

    def __init__(self, wrapped: Any, observation: Observation) -> None:
        super().__init__(wrapped)
        self._observation = observation

    def _begin(self, messages: Any, settings: Any, *, streaming: bool) -> ModelCall | None:
        last = messages[-1] if messages else None
        prompts = [part.content for part in getattr(last, "parts", ()) if part.part_kind == "user-prompt"]
        texts = [convert.system_prompts(messages, ""), getattr(last, "instructions", None)]
        asked = RequestFacts(
            model=convert.model_name(self.wrapped) or "unknown",
            provider=self.wrapped.system,
            prompt=prompts[0] if len(prompts) == 1 else prompts or None,
            instructions="\n\n".join(text for text in texts if text) or None,
            messages=len(messages),
            settings=convert.settings(settings),
        )
        answers = Answers(self._observation.recorder.pricing)
        return self._observation.begin(asked, answers, one_item, streaming=streaming, skip_stack_search=True)

    async def request(self, messages: Any, model_settings: Any, model_request_parameters: Any) -> ModelResponse:
        recorder = self._observation.recorder
        call: ModelCall | None = safely(recorder, partial(self._begin, messages, model_settings, streaming=False))
        try:
            response = await super().request(messages, model_settings, model_request_parameters)
        except BaseException as error:
            if call is not None:
                safely(recorder, call.raised, error)
            raise
        if call is not None:
            call.answered(response)
        return response

    @asynccontextmanager
    async def request_stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        recorder = self._observation.recorder
        call: ModelCall | None = safely(recorder, partial(self._begin, args[0], args[1], streaming=True))
        observed: _ObservedStream | None = None
        try:
            async with super().request_stream(*args, **kwargs) as stream:
                if call is not None:
                    observed = safely(recorder, _ObservedStream, call, stream)
                yield stream
        except BaseException as error:
            if call is not None:
                safely(recorder, observed.over if observed is not None else call.raised, error)
            raise
        if observed is not None:
            safely(recorder, observed.over, None)


class _ObservedStream:
    """Observed stream of an answer: records events as they are read, and facts at the end."""

    def __init__(self, call: ModelCall, stream: Any) -> None:
        self._call = call
        self._stream = stream
        self._failure: Failure | None = None
        call.opened()
        wrap_event_iterator(stream, self._events)

    def _events(self, iterator: Any) -> Any:
        return _Events(self._call, iterator, self._failed)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, Exception) and not isinstance(error, StopAsyncIteration):
            self._failure = Failure.of(error)

    def over(self, error: BaseException | None) -> None:
        """Record the end of the stream, caused by `error` if given. Keeps no reference to `error`."""
        call, response = self._call, self._stream.get()
        complete = response.state == "complete"
        call.adapter.facts(response, call)
        if self._failure is not None:
            call.error(self._failure.message, self._failure.type, "model")
            call.end("error", self._failure)
        elif isinstance(error, asyncio.CancelledError):
            call.end("cancelled")
        elif complete:
            call.unread()
        else:
            call.left()


class _Events(AsyncIterator[Any]):
    """Pass-through iterator over the events of a stream, which records each event."""

    def __init__(self, call: ModelCall, iterator: Any, failed: Callable[[BaseException], None]) -> None:
        self._call = call
        self._iterator = iterator
        self._failed = failed

    async def __anext__(self) -> Any:
        t_pull = monotonic_ns()
        try:
            item = await self._iterator.__anext__()
        except BaseException as error:
            safely(self._call.recorder, self._failed, error)
            raise
        self._call.item(item, t_pull)
        return item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)


class Answers:
    """Adapter for results of pydantic-ai's models: responses, events of their streams, embeddings, images."""

    def __init__(self, pricing: Pricing) -> None:
        self._pricing = pricing

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        kind = getattr(item, "event_kind", None)
        if kind == "part_start":
            self._part(item.index, item.part, record)
        elif kind == "part_delta":
            self._delta(item.index, item.delta, record)
        elif isinstance(item, ModelResponse):
            for index, part in enumerate(item.parts):
                self._part(index, part, record)
            self.facts(item, record)
            record.answer_complete(item.finish_reason)
        elif kind is None:
            self._result(item, record)

    def _part(self, index: int, part: Any, record: StreamRecorder) -> None:
        match part.part_kind:
            case "text":
                record.text(part.content, index)
            case "thinking":
                record.thinking(part.content or "", index)
            case "tool-call":
                args = args_text(part.args) or ""
                record.tool_call(index, args, tool_name=part.tool_name, tool_call_id=part.tool_call_id)
            case _:
                record.piece("other", index, "", {"part_kind": part.part_kind})

    def _delta(self, index: int, delta: Any, record: StreamRecorder) -> None:
        match delta.part_delta_kind:
            case "text":
                record.text(delta.content_delta or "", index)
            case "thinking":
                record.thinking(delta.content_delta or "", index)
            case "tool_call":
                args = args_text(delta.args_delta) or ""
                record.tool_call(index, args, tool_name=delta.tool_name_delta, tool_call_id=delta.tool_call_id)

    def facts(self, response: Any, record: StreamRecorder) -> None:
        """Record the facts of a model's response."""
        facts = convert.response_facts(response, self._pricing, partial=False)
        record.response(
            response_model=facts.response_model,
            response_id=facts.response_id,
            provider=facts.provider,
            service_tier=facts.service_tier,
            finish_reason=facts.finish_reason,
        )
        if facts.usage is not None:
            record.usage(facts.usage, facts.cost)

    def _result(self, result: Any, record: StreamRecorder) -> None:
        """Record the facts of embeddings or images."""
        record.response(
            response_model=result.model_name, response_id=result.provider_response_id, provider=result.provider_name
        )
        record.answer_complete("stop")
        used, usd = convert.usage(result.usage), result.usage.cost
        cost = None if usd is None else Cost(usd, "genai-prices", price_list_version())
        with suppress(LookupError, AssertionError):  # a model without a known price
            cost = cost or Cost(result.cost().total_price, "genai-prices", price_list_version())
        if used is not None:
            record.usage(used, cost)
