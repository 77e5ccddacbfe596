"""What the items of a tapped stream mean: the adapters that are built in, and how others are found by name.

A third party's adapter is a function (or class) named under the entry-point group `sidestream.adapters`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import cache
from importlib.metadata import entry_points
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from sidestream.errors import ConfigurationError
from sidestream.events import (
    AgentEnd,
    Custom,
    Error,
    FinalResult,
    LLMChunk,
    LLMEnd,
    LLMStart,
    Retry,
    StreamEvent,
    ToolEnd,
    ToolStart,
    Usage,
)
from sidestream.recording.content import safe_str
from sidestream.recording.pricing import Cost
from sidestream.recording.run import Failure

if TYPE_CHECKING:
    from sidestream.sources.tap.recorder import Teller

ENTRY_POINT_GROUP = "sidestream.adapters"


class Adapter(Protocol):
    """Says what the items of a stream mean: a function `(item, tell)`, or a class, made anew for each stream.

        def my_adapter(item, tell):
            if item["type"] == "token":
                tell.text(item["text"])

    It is called on the caller's path, once for each item, so it should do little. What it raises is counted
    (`SidecarStats.recording_errors`) and changes nothing for the caller.
    """

    def __call__(self, item: Any, tell: Teller, /) -> None: ...


def text(item: Any, tell: Teller) -> None:
    """Items are pieces of text: `str`, or UTF-8 bytes."""
    tell.text(item)


def any_json(item: Any, tell: Teller) -> None:
    """Items are anything: each is a `custom` event, named after its `type` (`event`, `kind`, `name`) or its class."""
    names = (item.get(key) for key in ("type", "event", "kind", "name")) if isinstance(item, dict) else ()
    tell.custom(next((name for name in names if isinstance(name, str) and name), type(item).__name__), item)


class OpenAIChat:
    """Items are chunks of OpenAI's chat completions: the client's objects, or their dicts."""

    def __init__(self) -> None:
        load_price_list()  # before the stream flows; the first time takes as long as importing pydantic

    def __call__(self, item: Any, tell: Teller, /) -> None:
        _openai_chunk(item, tell)


def _openai_chunk(item: Any, tell: Teller) -> None:
    choices = _get(item, "choices")
    if not tell.answer:
        tell.response(response_model=_get(item, "model") or None, response_id=_get(item, "id") or None)
    for choice in choices or ():
        index, delta = _get(choice, "index"), _get(choice, "delta")
        content, calls = _get(delta, "content"), _get(delta, "tool_calls")
        if content:
            tell.text(content, index)
        for call in calls or ():
            function = _get(call, "function")
            tell.tool_call(
                (index, _get(call, "index")),
                _get(function, "arguments") or "",
                tool_name=_get(function, "name"),
                tool_call_id=_get(call, "id"),
            )
        if not content and not calls:  # fields that few providers have are slow to miss on the client's objects
            if thought := _get(delta, "reasoning_content") or _get(delta, "reasoning"):
                tell.thinking(thought, index)
            if refusal := _get(delta, "refusal"):
                tell.text(refusal, (index, "refusal"))
        if finish_reason := _get(choice, "finish_reason"):
            tell.response(finish_reason=finish_reason)
            tell.outcome = tell.outcome or "completed"
    if used := _get(item, "usage"):
        _openai_usage(used, tell)
    if (not choices or isinstance(item, dict)) and (error := _get(item, "error")):
        tell.error(safe_str(_get(error, "message") or error), str(_get(error, "type") or "Error"), "model")


def _openai_usage(used: Any, tell: Teller) -> None:
    asked, answered = _get(used, "prompt_tokens_details"), _get(used, "completion_tokens_details")
    charged = _get(used, "cost")  # OpenRouter's
    tell.usage(
        Usage(
            input_tokens=_get(used, "prompt_tokens"),
            output_tokens=_get(used, "completion_tokens"),
            cache_read_tokens=_get(asked, "cached_tokens") or None,
            input_audio_tokens=_get(asked, "audio_tokens") or None,
            reasoning_tokens=_get(answered, "reasoning_tokens") or None,
            output_audio_tokens=_get(answered, "audio_tokens") or None,
        ),
        Cost(Decimal(str(charged)), "provider") if type(charged) in (int, float) and 0 <= charged < inf else None,
    )


@cache
def load_price_list() -> None:
    """Have genai-prices' list ready, so that no stream has to wait for it."""
    from genai_prices import Usage as Counts
    from genai_prices import calc_price

    with suppress(LookupError):
        calc_price(Counts(input_tokens=1), "gpt-5")


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


class Events:
    """Items are `StreamEvent`s. Told are those of the run that speaks first; what its sub-agents do is left out."""

    def __init__(self) -> None:
        self._run_id: str | None = None

    def __call__(self, item: Any, tell: Teller, /) -> None:
        event: StreamEvent = item
        if self._run_id is None:
            self._run_id = event.run_id
        if event.run_id != self._run_id:
            return
        facts: dict[str, Any]
        match event.data:
            case LLMChunk(text=str(piece)) as chunk:
                names = {"tool_name": chunk.tool_name, "tool_call_id": chunk.tool_call_id, "part_kind": chunk.part_kind}
                tell.piece(chunk.kind, chunk.part, piece, names)
            case LLMStart() as start:
                facts = {"provider": start.provider, "messages": start.messages, "settings": start.settings}
                tell.request_start(start.model, streaming=start.streaming, instructions=start.instructions, **facts)
            case LLMEnd() as end:
                names = {name: end.get(name) for name in ("response_model", "response_id", "provider", "finish_reason")}
                tell.response(**names)
                if end.usage is not None:
                    usd, source = end.cost_usd, end.cost_source or "provider"
                    cost = None if usd is None else Cost(Decimal(str(usd)), source, end.price_version)
                    tell.usage(end.usage, cost)
                tell.request_end(end.outcome, _failure(end.exception_type, end.error))
            case ToolStart() as tool:
                tell.tool_start(tool.tool_name, tool.args, tool_call_id=tool.tool_call_id)
            case ToolEnd() as tool:
                facts = {"tool_call_id": tool.tool_call_id, "failure": _failure(tool.exception_type, tool.error)}
                tell.tool_end(tool.tool_name, tool.result, outcome=tool.outcome, **facts)
            case Retry() as retry:
                tell.run.retry(**retry)
            case Error() as error:
                facts = {"tool_name": error.tool_name, "tool_call_id": error.tool_call_id}
                tell.error(safe_str(error.error), error.exception_type or "Error", error.where, **facts)
            case FinalResult() as final:
                tell.run.final_result(final.output, final.output_type)
            case Custom() as custom:
                tell.custom(custom.name, custom.payload)
            case AgentEnd() as over:
                tell.outcome = over.outcome


def _failure(exception_type: str | None, error: Any) -> Failure | None:
    return None if exception_type is None else Failure(exception_type, safe_str(error))


BUILT_IN: dict[str, Callable[..., Any]] = {
    "events": Events,
    "json": any_json,
    "openai-chat": OpenAIChat,
    "text": text,
}


class ByFirstItem:
    """Chooses by the first item which of the built-in adapters reads the stream; `json` where none knows it."""

    def __init__(self) -> None:
        self._chosen: Adapter | None = None

    def __call__(self, item: Any, tell: Teller, /) -> None:
        if self._chosen is None:
            self._chosen = _made(BUILT_IN[_name_for(item)])
        self._chosen(item, tell)


def _name_for(item: Any) -> str:
    if isinstance(item, str | bytes):
        return "text"
    if isinstance(item, StreamEvent):
        return "events"
    return "openai-chat" if _get(item, "object") == "chat.completion.chunk" else "json"


# --- look-up by name -----------------------------------------------------------------------------------------------


def available_adapters() -> list[str]:
    """Names of the adapters that are built in or installed, sorted."""
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))})


def adapter_of(choice: str | Adapter | type[Adapter] | None) -> Adapter:
    """The adapter meant by `choice`: a name, an adapter itself, or None to choose by the first item.

    Raises `ConfigurationError` where there is none of that name, or it cannot be called.
    """
    if choice is None:
        return ByFirstItem()
    if not isinstance(choice, str):
        if not callable(choice):
            raise ConfigurationError(f"adapter={choice!r}: give a name, or a function (item, tell)")
        return _made(choice)
    if choice in BUILT_IN:
        return _made(BUILT_IN[choice])
    entry = next((entry for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.name == choice), None)
    if entry is None:
        installed = ", ".join(available_adapters())
        raise ConfigurationError(f"adapter={choice!r}: there is no such adapter; there are: {installed}")
    try:
        return _made(entry.load())
    except ImportError as error:
        raise ConfigurationError(f"adapter={choice!r}: it is installed but does not import: {error}") from error


def _made(adapter: Callable[..., Any]) -> Adapter:
    made: Adapter = adapter() if isinstance(adapter, type) else adapter
    return made
