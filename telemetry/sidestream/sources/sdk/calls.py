"""Model calls through an SDK, recorded as requests of the enclosing agent run, or as runs of their own."""

from __future__ import annotations

import inspect
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any, NamedTuple, TypeAlias

from sidestream.events import Json, RequestOutcome, RunOutcome
from sidestream.recording.context import enclosing, recorded_outside
from sidestream.recording.failure import Failure
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request_recorder import monotonic_ns
from sidestream.recording.run_recorder import RunRecorder
from sidestream.recording.snapshot import snapshot
from sidestream.recording.span_context import current_span
from sidestream.sources.adapters.protocol import Adapter
from sidestream.sources.tap.tapped_run import TappedRun
from sidestream.sources.time_limits import Interruptible, interruption

_MODELS = "pydantic_ai.models."
"""Modules of pydantic-ai that make requests for an agent, whose observer records the requests."""


class RequestFacts(NamedTuple):
    """Facts of a request to an SDK: plain values, or objects of the caller to be snapshotted."""

    model: str
    provider: str | None = None
    prompt: Any = None
    instructions: Any = None
    messages: int | None = None
    settings: dict[str, Json] | None = None
    stop_sequences: Any = None
    tools: tuple[str, ...] | None = None


class Observation:
    """Observation of the SDKs by one sidecar, between `install()` and `uninstall()`."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.on = True
        self.recording_functions: set[tuple[str, str | None]] = {
            ("sidestream.sources.pydantic_ai.capability", "wrap_model_request"),
            ("sidestream.sources.pydantic_ai.event_streams", "observe_model_stream"),
        }
        """Module and name of functions that record the model calls made in them; None: any function of the module."""

    @property
    def active(self) -> bool:
        """Whether recording is on. Wrappers that cannot be removed only forward the call once recording is off."""
        return self.on and self.recorder.active

    def _is_recorded(self) -> bool:
        """Whether a function on the stack already records this call.

        A context variable would slow down every request of an agent, and would be lost: pydantic-ai opens a stream in
        another context than that of the request hook.
        """
        recording_functions = self.recording_functions
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            if (
                (module, frame.f_code.co_name) in recording_functions
                or (module, None) in recording_functions
                or module.startswith(_MODELS)
            ):
                return True
            frame = frame.f_back
        return False

    def begin(
        self,
        asked: RequestFacts,
        adapter: Adapter,
        items: Callable[[Any], Iterable[Any]],
        *,
        streaming: bool,
        skip_stack_search: bool = False,
    ) -> ModelCall | None:
        """Start recording a model call. Returns None if recording is off, or if outer code already records the call.

        `items`: converts an answer without streaming to the items of a stream.
        `skip_stack_search`: skips the search of the stack for a function that already records the call.
        """
        if not self.active or recorded_outside.get() or (not skip_stack_search and self._is_recorded()):
            return None
        link = enclosing(self.recorder)
        if link is not None and link.recorded_modules and _is_within(link.recorded_modules):
            return None
        if link is not None and link.requests is not None:
            return ModelCall(self.recorder, link.requests(), adapter, asked, items, streaming=streaming, is_run=False)
        run = self.recorder.open_run(str(uuid.uuid4()), None, link)
        run.start(
            prompt=snapshot(asked.prompt) if self.recorder.wants_content else None,
            model=asked.model,
            mode=None,
            caller=current_span(),
        )
        return ModelCall(self.recorder, run, adapter, asked, items, streaming=streaming, is_run=True)


def _is_within(modules: tuple[str, ...]) -> bool:
    """Whether a function on the stack is in a module whose name starts with one of `modules`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(modules):
            return True
        frame = frame.f_back
    return False


class ModelCall(TappedRun):
    """Recorder of one model call. A call within the run of its caller is recorded as a request only."""

    def __init__(
        self,
        recorder: Recorder,
        run: RunRecorder,
        adapter: Adapter,
        asked: RequestFacts,
        items: Callable[[Any], Iterable[Any]],
        *,
        streaming: bool,
        is_run: bool,
        at: int | None = None,
    ) -> None:
        super().__init__(recorder, run, adapter, model=asked.model, provider=asked.provider)
        self._items = items
        self._streaming = streaming
        self._is_run = is_run
        self._is_over = False
        self._interruption: RunOutcome | None = None
        """Interruption of the consumer that leaves; None until known."""
        self._whole: dict[tuple[Any, ...], tuple[list[str], dict[str, str | None]]] = {}
        """Texts and names of the parts of an answer without streaming."""
        wants_content = recorder.wants_content
        self.request_start(
            asked.model,
            at=at,
            streaming=streaming,
            messages=asked.messages,
            instructions=snapshot(asked.instructions) if wants_content and asked.instructions is not None else None,
            settings=asked.settings,
            stop_sequences=snapshot(asked.stop_sequences) if wants_content and asked.stop_sequences else None,
            tools=asked.tools,
        )

    @property
    def recorder(self) -> Recorder:
        """Recorder of the sidecar."""
        return self._recorder

    @property
    def adapter(self) -> Any:
        """Adapter that reads the answer."""
        return self._adapter

    def opened(self) -> None:
        """Record the opening of the stream."""
        super().opened()
        if self._request is not None:
            self._request.begin_stream(self._opened)

    def item(self, item: Any, t_pull: int) -> None:
        """Record `item` of the stream, pulled at `t_pull` (monotonic ns) and received now."""
        if not self._is_over:
            super().item(item, t_pull)

    def answered(self, answer: Any) -> None:
        """Record an answer without streaming."""
        try:
            self._t = self._t_pull = monotonic_ns()
            for item in self._items(answer):
                self._adapter(item, self)
        except Exception as error:
            self._recorder.trouble(error)
        self._complete = None  # a whole answer is complete, whether or not its finish reason says so
        self.end("completed")

    def unread(self) -> None:
        """End a call whose answer only the caller can read; its usage stays unknown."""
        self.outcome = "completed"
        self.end("completed")

    def piece(self, kind: Any, key: Any, text: str, names: dict[str, str | None] | None = None) -> None:
        """Record a piece of an answer, of any kind."""
        if self._streaming:
            super().piece(kind, key, text, names)
            return
        texts, known = self._whole.setdefault((kind, key), ([], {}))
        texts.append(text)
        known.update({name: value for name, value in (names or {}).items() if isinstance(value, str)})

    def _account_times(self) -> None:
        if self._streaming:
            super()._account_times()

    def _close_parts(self) -> None:
        self._record_whole()
        super()._close_parts()

    def request_end(self, outcome: RequestOutcome = "ok", failure: Failure | None = None) -> None:
        """Record the end of the model's answer."""
        self._record_whole()
        super().request_end(outcome, failure)

    def _record_whole(self) -> None:
        parts, self._whole = getattr(self, "_whole", {}), {}
        if self._request is None or not self._recorder.wants_content:
            return
        now = monotonic_ns()
        first = len(self._indexes)
        for index, ((kind, key), (texts, names)) in enumerate(parts.items(), first):
            self._indexes[kind, key] = index
            self._request.whole(index, kind, "".join(texts), now, **names)

    def raised(self, error: BaseException) -> None:
        """Record `error`, raised by the call or its stream (including StopIteration). Keeps no reference to `error`."""
        if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
            failure = Failure.of(error)
            request = self._request
            self._run.error(failure, "model", identity=id(error), request=None if request is None else request.number)
            self.end("error", failure)
        else:
            super().raised(error)

    def end(self, outcome: RunOutcome, failure: Failure | None = None) -> None:
        """End the call, or the reading of its stream. Idempotent."""
        if self._is_over:
            return
        self._is_over = True
        if self._is_run:
            super().end(outcome, failure)
        elif not self._run.ended:
            self.finish(outcome, failure)

    def leaving(self) -> None:
        """The stream is about to be closed: what interrupts its consumer is known now, and not once that is awaited."""
        self._interruption = safely(self._recorder, interruption)

    def left(self) -> None:
        """Record that the consumer has left the stream, voluntarily or interrupted."""
        if self._interruption is None:
            self.leaving()
        safely(self._recorder, self.end, self._interruption or "abandoned")


Begin: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], "ModelCall | None"]
"""Starts the recording of a call from its arguments; returns None if the call is not recorded."""
Answered: TypeAlias = Callable[["ModelCall", Any, dict[str, Any]], Any]
"""Function from the recorder, the result and the keyword arguments of a call to the result for the caller."""


def around(
    original: Any, observation: Observation, begin: Begin, answered: Answered, *, suppress_inner: bool = False
) -> Callable[..., Any]:
    """Wrap a function of an SDK, sync or async, and record its calls.

    `suppress_inner`: whether the function uses another SDK, possibly observed, whose calls must not be recorded again.
    """
    recorder = observation.recorder

    def begun(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall | None:
        call: ModelCall | None = safely(recorder, begin, args, kwargs) if observation.active else None
        return call

    def ask(*args: Any, **kwargs: Any) -> Any:
        if (call := begun(args, kwargs)) is None:
            return original(*args, **kwargs)
        with _CallContext(call, suppress_inner):
            answer = original(*args, **kwargs)
        return _handed_on(recorder, answered, call, answer, kwargs)

    async def aask(*args: Any, **kwargs: Any) -> Any:
        if (call := begun(args, kwargs)) is None:
            return await original(*args, **kwargs)
        with _CallContext(call, suppress_inner):
            answer = await Interruptible(original(*args, **kwargs))
        return _handed_on(recorder, answered, call, answer, kwargs)

    return aask if inspect.iscoroutinefunction(original) else ask


class _CallContext:
    """Context manager around an SDK's function: records exceptions, and suppresses recording by other SDKs below."""

    __slots__ = ("_call", "_outside", "_suppress_inner")

    def __init__(self, call: ModelCall, suppress_inner: bool) -> None:
        self._call = call
        self._suppress_inner = suppress_inner

    def __enter__(self) -> None:
        if self._suppress_inner:
            self._outside = recorded_outside.get()
            recorded_outside.set(True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._suppress_inner:
            recorded_outside.set(self._outside)
        if error is not None:
            safely(self._call.recorder, self._call.raised, error)


def _handed_on(recorder: Recorder, answered: Answered, call: ModelCall, answer: Any, kwargs: dict[str, Any]) -> Any:
    try:
        return answered(call, answer, kwargs)
    except Exception as error:
        recorder.trouble(error)
        call.unread()
        return answer


def settings_of(values: Mapping[str, Any]) -> dict[str, Json] | None:
    """Recordable settings of a request: numbers, booleans and strings."""
    found = {_SETTINGS[name]: value for name in _SETTINGS if isinstance(value := values.get(name), str | int | float)}
    return found or None


_SETTINGS = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "parallel_tool_calls": "parallel_tool_calls",
    "service_tier": "service_tier",
}
"""Settings to record: names in the SDKs, and in the log. Excludes headers and bodies. Stop sequences are content."""


def stop_sequences_of(values: Mapping[str, Any]) -> Any:
    """Stop sequences of a request as a list, under any of the SDKs' names; None without any."""
    given = values.get("stop_sequences") or values.get("stop")
    return [given] if isinstance(given, str) else given


def text_of(content: Any) -> Any:
    """Text of a message's `content` if all parts are texts; else `content` unchanged."""
    if isinstance(content, Sequence) and not isinstance(content, str | bytes) and content:
        texts = [part.get("text") if isinstance(part, Mapping) else getattr(part, "text", None) for part in content]
        known = [text for text in texts if isinstance(text, str)]
        if len(known) == len(texts):
            return "\n".join(known)
    return content
