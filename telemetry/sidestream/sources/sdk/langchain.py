"""LangChain callbacks within a graph: record nodes, tools, and requests that no observed SDK records."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from sidestream.events import Json, ToolOutcome
from sidestream.recording.context import Link, current
from sidestream.recording.failure import Failure
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request_recorder import monotonic_ns
from sidestream.recording.run_recorder import RunRecorder
from sidestream.recording.snapshot import snapshot
from sidestream.recording.span_context import current_span_context
from sidestream.sources.adapters.fields import field, plain
from sidestream.sources.adapters.langgraph import PROVIDERS, LangGraph
from sidestream.sources.time_limits import is_time_out

from .calls import ModelCall, RequestFacts, settings_of, text_of
from .request_facts import ask_chat
from .whole import one_item


class Answer(LangGraph):
    """Adapter for one answer of a chat model, in the form of LangChain events."""

    def __init__(self, run_id: Any) -> None:
        super().__init__()
        self._open = run_id


class _ChatCall:
    """One model call, recorded by the SDK below, or else from LangChain's callbacks."""

    def __init__(self, callbacks: GraphCallbacks, run_id: Any, asked: RequestFacts) -> None:
        self._callbacks = callbacks
        self._run_id = run_id
        self._asked = asked
        self._started = self._t = monotonic_ns()
        self._is_recorded_by_sdk = False
        self._call: ModelCall | None = None
        self._outside = current.get()
        self._link = callbacks.link_with(requests=self._recorded_by_sdk)
        current.set(self._link)

    def _recorded_by_sdk(self) -> RunRecorder:
        self._is_recorded_by_sdk = True
        return self._callbacks.run

    def _call_recorder(self, streaming: bool) -> ModelCall | None:
        """Recorder of the call; None if the SDK of the model records the call."""
        if self._call is None and not self._is_recorded_by_sdk:
            about: dict[str, Any] = {"streaming": streaming, "is_run": False, "at": self._started}
            recorder, run = self._callbacks.recorder, self._callbacks.run
            self._call = ModelCall(recorder, run, Answer(self._run_id), self._asked, one_item, **about)
            if streaming:
                self._call.opened()
        return self._call

    def piece(self, message: Any) -> None:
        """Record a piece of the answer."""
        if not self._is_recorded_by_sdk and (call := self._call_recorder(streaming=True)) is not None:
            call.item({"event": "on_chat_model_stream", "run_id": self._run_id, "data": {"chunk": message}}, self._t)
            self._t = monotonic_ns()

    def answered(self, message: Any) -> None:
        """Record a complete answer."""
        self._restore()
        if (call := self._call_recorder(streaming=False)) is not None:
            call.answered({"event": "on_chat_model_end", "run_id": self._run_id, "data": {"output": message}})

    def raised(self, error: BaseException) -> None:
        """Record `error`, raised by the call. Keeps no reference to `error`."""
        self._restore()
        if (call := self._call_recorder(streaming=False)) is not None:
            call.raised(error)

    def _restore(self) -> None:
        if current.get() is self._link:  # asynchronous models report their end in another context
            current.set(self._outside)


class GraphCallbacks:
    """Receiver of LangChain's callbacks for the run of one graph.

    Args:
        recorder: Recorder of the sidecar.
        run: Run of the graph.
        link: Link of the graph's own code.
        answer_of: Converts the final state of a graph to its answer.
    """

    def __init__(self, recorder: Recorder, run: RunRecorder, link: Link, answer_of: Callable[[Any], Json]) -> None:
        self.recorder = recorder
        self.run = run
        self._outer = link.outer
        self._answer_of = answer_of
        self._graph: Any = None
        """LangChain's id of the graph's run: the first reported id."""
        self.is_timed_out = False
        """Whether a time limit has cancelled a part of the graph, while the callers' tasks are still suspended."""
        self._is_interrupted = False
        self._models: dict[Any, _ChatCall] = {}
        self._tools: dict[Any, tuple[int, Link, Link | None]] = {}

    def link_with(self, **more: Any) -> Link:
        """Make a link to the graph's run, with the fields `more`."""
        return Link(self.run, outer=self._outer, around=current_span_context(), **more)

    # --- nodes ---

    def chain_start(self, run_id: Any, name: Any, metadata: Any) -> None:
        """Record the start of a node. Starts of the graph itself, and of parts of nodes, are ignored."""
        if self._graph is None:
            self._graph = run_id
        elif isinstance(name, str) and field(metadata, "langgraph_node") == name:
            step = field(metadata, "langgraph_step")
            self.run.custom("node", {"node": name} if step is None else {"node": name, "step": step})

    def chain_end(self, run_id: Any, outputs: Any) -> None:
        """Record the result of the graph. Ends of nodes are ignored."""
        if run_id == self._graph and not self._is_interrupted:
            content = self._answer_of(outputs) if self.recorder.wants_content else None
            self.run.final_result(content, type(outputs).__name__)

    def chain_error(self, run_id: Any, error: BaseException) -> None:
        """Record an interrupt of the graph. Other errors are recorded by the run."""
        self.is_timed_out = self.is_timed_out or is_time_out(error)
        if type(error).__name__ == "GraphInterrupt" and not self._is_interrupted:
            self._is_interrupted = True
            asked = [field(each, "value") for each in (error.args[0] if error.args else ()) or ()]
            self.run.custom("interrupt", snapshot(asked) if self.recorder.wants_content else None)

    # --- models ---

    def model_start(self, run_id: Any, messages: Any, serialized: Any, metadata: Any, params: Any) -> None:
        """Prepare the recording of a model call, made in the current context."""
        provider = field(metadata, "ls_provider")
        body = {"model": field(metadata, "ls_model_name") or field(serialized, "name"), "tools": field(params, "tools")}
        asked = ask_chat(body, PROVIDERS.get(provider, provider))
        texts = [text_of(field(each, "content")) for each in messages if field(each, "type") == "system"]
        settings = {name: field(metadata, f"ls_{name}") for name in ("temperature", "max_tokens")}
        asked = asked._replace(
            messages=len(messages),
            instructions="\n\n".join(each for each in texts if isinstance(each, str)) or None,
            settings=settings_of(settings),
        )
        self._models[run_id] = _ChatCall(self, run_id, asked)

    def model_piece(self, run_id: Any, chunk: Any) -> None:
        """Record a piece of a model's answer."""
        if (chat_call := self._models.get(run_id)) is not None and (message := field(chunk, "message")) is not None:
            chat_call.piece(message)

    def model_end(self, run_id: Any, response: Any) -> None:
        """Record a model's answer."""
        if (chat_call := self._models.pop(run_id, None)) is not None:
            first = next((each for some in field(response, "generations") or () for each in some), None)
            chat_call.answered(field(first, "message") or {"type": "ai", "content": field(first, "text")})

    def model_error(self, run_id: Any, error: BaseException) -> None:
        """Record the failure or cancellation of a model call."""
        if (chat_call := self._models.pop(run_id, None)) is not None:
            chat_call.raised(error)

    # --- tools ---

    def tool_start(self, run_id: Any, serialized: Any, given: Any, call_id: Any) -> None:
        """Record the start of a tool, executed in the current context."""
        call_id = call_id if isinstance(call_id, str) else None
        arguments = snapshot(given) if self.recorder.wants_content else None
        span = self.run.tool_start(str(field(serialized, "name") or "tool"), call_id, arguments)
        link = self.link_with(tool_call_id=call_id, span=span)
        self._tools[run_id] = span, link, current.get()
        current.set(link)

    def tool_end(self, run_id: Any, output: Any) -> None:
        """Record the end of a tool."""
        content = field(output, "content") if field(output, "type") == "tool" else plain(output)
        result = snapshot(content) if self.recorder.wants_content else None
        self._tool_over(run_id, "failed" if field(output, "status") == "error" else "ok", result=result)

    def tool_error(self, run_id: Any, error: BaseException) -> None:
        """Record the exception of a tool, which may be an interrupt of the graph."""
        if any(kind.__name__ == "GraphBubbleUp" for kind in type(error).__mro__):
            self._tool_over(run_id, "deferred")
        else:
            self._tool_over(run_id, "failed", failure=Failure.of(error))

    def _tool_over(self, run_id: Any, outcome: ToolOutcome, **facts: Any) -> None:
        found = self._tools.pop(run_id, None)
        if found is not None:
            span, link, outside = found
            if current.get() is link:
                current.set(outside)
            self.run.tool_end(span, outcome, **facts)


def handler_class(base: Any, innermost: ContextVar[Any]) -> Any:
    """Make the class of LangChain callback handlers that report to a `GraphCallbacks`.

    Args:
        base: Base class of all handlers.
        innermost: Handler of the graph to which the current code belongs. A nested graph inherits the handlers of the
            outer graph, which must ignore its callbacks.
    """

    class Handler(base):  # type: ignore[misc]
        run_inline = True  # in the calling context, so that context variables set here take effect
        ignore_retriever = True
        ignore_retry = True
        ignore_custom_event = True

        def __init__(self, callbacks: GraphCallbacks) -> None:
            self._to = callbacks

        def __deepcopy__(self, memo: Any) -> Any:
            return self  # a program may deep-copy its configuration

        def __reduce__(self) -> Any:
            return base, ()  # a program may pickle its configuration

        def _report(self, call: Callable[..., Any], *args: Any) -> None:
            if innermost.get() is self:
                safely(self._to.recorder, call, *args)

        def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: Any, **more: Any) -> None:
            self._report(self._to.chain_start, run_id, more.get("name"), more.get("metadata"))

        def on_chain_end(self, outputs: Any, *, run_id: Any, **more: Any) -> None:
            self._report(self._to.chain_end, run_id, outputs)

        def on_chain_error(self, error: BaseException, *, run_id: Any, **more: Any) -> None:
            self._report(self._to.chain_error, run_id, error)

        def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: Any, **more: Any) -> None:
            about = more.get("metadata"), more.get("invocation_params")
            self._report(self._to.model_start, run_id, messages[0], serialized, *about)

        def on_llm_start(self, serialized: Any, prompts: Any, *, run_id: Any, **more: Any) -> None:
            about = more.get("metadata"), more.get("invocation_params")
            self._report(self._to.model_start, run_id, prompts, serialized, *about)

        def on_llm_new_token(self, token: Any, *, run_id: Any, chunk: Any = None, **more: Any) -> None:
            self._report(self._to.model_piece, run_id, chunk)

        def on_llm_end(self, response: Any, *, run_id: Any, **more: Any) -> None:
            self._report(self._to.model_end, run_id, response)

        def on_llm_error(self, error: BaseException, *, run_id: Any, **more: Any) -> None:
            self._report(self._to.model_error, run_id, error)

        def on_tool_start(self, serialized: Any, input_str: str, *, run_id: Any, **more: Any) -> None:
            given = more.get("inputs")
            self._report(
                self._to.tool_start, run_id, serialized, input_str if given is None else given, more.get("tool_call_id")
            )

        def on_tool_end(self, output: Any, *, run_id: Any, **more: Any) -> None:
            self._report(self._to.tool_end, run_id, output)

        def on_tool_error(self, error: BaseException, *, run_id: Any, **more: Any) -> None:
            self._report(self._to.tool_error, run_id, error)

    return Handler
