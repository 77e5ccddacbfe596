"""What an adapter can tell of a tapped stream: it says what an item means, and a `Run` hears of it.

Text is gathered as the observer of an agent does it, in the same `Request` and `Part`.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Hashable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec

from sidestream.events import ChunkKind, Json, RequestOutcome, RunOutcome, ToolOutcome, Usage
from sidestream.recording.content import snapshot
from sidestream.recording.failure import Failure
from sidestream.recording.pricing import Cost
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request import MAX_DELTAS, Part, Request, monotonic_ns
from sidestream.recording.run import Run, Where

if TYPE_CHECKING:
    from sidestream.sources.adapters.protocol import Adapter

_NOTHING = Part(-1, "other", due=0)
_NO_KEY: Hashable = object()
_REQUEST_OUTCOME: dict[RunOutcome, RequestOutcome] = {"completed": "ok", "error": "error", "abandoned": "interrupted"}


class StreamRecorder:
    """What an adapter can tell of the stream. An item may tell several things, or nothing."""

    def __init__(
        self, recorder: Recorder, run: Run, adapter: Adapter, *, model: str | None, provider: str | None
    ) -> None:
        self.run = run
        """The run itself, for what is told seldom: `run.retry`, `run.custom`, `run.final_result`."""
        self.outcome: RunOutcome | None = None
        """How the stream itself says that it ended. It holds even if the consumer leaves after that."""
        self._recorder = recorder
        self._adapter = adapter
        self._model = model
        self._provider = provider
        self._failure: Failure | None = None
        self._t_pull = self._t = monotonic_ns()
        """Of the item at hand: when it was asked for and when it came. Equal once its times are in the books."""
        self._since = self._t
        """When the last item came that is in no request's books: a request that nobody announces began then."""
        self._tools: dict[str, int] = {}
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._request: Request | None = None
        self._forget_request()

    def _forget_request(self) -> None:
        self.answer: dict[str, str] = {}
        """What `response` has told of the answer being read."""
        self._usage: Usage | None = None
        self._cost: Cost | None = None
        self._indexes: dict[tuple[ChunkKind, Hashable], int] = {}
        self._leave_part()

    def _leave_part(self) -> None:
        self._kind: ChunkKind = "other"
        self._key = _NO_KEY
        self._part = _NOTHING
        self._due = 0.0

    def item(self, item: Any, t_pull: int) -> None:
        """`item`, asked for at `t_pull` (monotonic ns), has just come."""
        if self.run.ended:
            return
        self._t_pull, self._t = t_pull, monotonic_ns()
        try:
            self._adapter(item, self)
            if self._t_pull != self._t:  # nothing was gathered from it
                self._noted()
        except Exception as error:
            self._recorder.trouble(error)

    def in_vain(self, t_pull: int) -> None:
        """An item was asked for at `t_pull`, and none came: that wait counts too."""
        self._t_pull, self._t = t_pull, monotonic_ns()
        self._noted()

    def _noted(self) -> None:
        """Take the item's times into the books; whatever else it brings came at no further cost of time."""
        if self._request is None:
            self._since = self._t
        else:
            self._request.noted(self._part, self._t_pull, self._t, chunk=False)
        self._t_pull = self._t

    @property
    def last_at(self) -> int:
        """When the last item came, or was waited for in vain (monotonic ns)."""
        return self._t

    # --- the answer of a model ---

    def text(self, text: str | bytes, part: Hashable = None) -> None:
        """A piece of text (bytes are UTF-8, cut anywhere); `part` tells apart texts that come side by side."""
        self.piece("text", part, text if isinstance(text, str) else self._decode(text))

    def thinking(self, text: str, part: Hashable = None) -> None:
        """A piece of the model's reasoning."""
        self.piece("thinking", part, text)

    def tool_call(
        self, part: Hashable, args: str = "", *, tool_name: str | None = None, tool_call_id: str | None = None
    ) -> None:
        """A piece of a tool call as the model writes it: JSON text of the arguments, or its beginning, with a name.

        That the tool is executed is another thing: `tool_start`.
        """
        self.piece("tool_call", part, args, {"tool_name": tool_name, "tool_call_id": tool_call_id})

    def piece(self, kind: ChunkKind, key: Hashable, text: str, names: dict[str, str | None] | None = None) -> None:
        """A piece of an answer, of any kind; `names` are the tool's, or the `part_kind` of kind `other`."""
        # The caller's path: for a further piece of the part at hand, three appends.
        if key != self._key or kind != self._kind:
            self._turn(kind, key, names or {})
        if not isinstance(text, str):
            raise TypeError(f"a piece of an answer is a str, not {type(text).__qualname__}")
        part, t = self._part, self._t
        part.texts.append(text)
        part.pulls.append(self._t_pull)
        part.times.append(t)
        self._t_pull = t
        if t >= self._due or len(part.times) >= MAX_DELTAS:
            assert self._request is not None
            self._due = self._request.gathered(part, t)

    def request_start(self, model: str | None = None, **facts: Any) -> None:
        """A model is asked now; `facts` are further fields of `LLMStart`. Without it, the first piece of an answer
        begins a request. One still open is over."""
        self.request_end()
        self._open_request(model, facts)
        self._t_pull = self._t

    def response(self, **facts: str | None) -> None:
        """What is known of the answer: `response_model`, `response_id`, `finish_reason`, `provider`."""
        if self._request is None:
            self._begin_request()
        self.answer.update({name: value for name, value in facts.items() if isinstance(value, str)})

    def usage(self, usage: Usage, cost: Cost | None = None) -> None:
        """What the request has used so far, all told. Unless its cost is given it is priced like any request."""
        usage = msgspec.convert(msgspec.to_builtins(usage), Usage)  # nobody else checks the counts
        if self._request is None:
            self._begin_request()
        if usage.keys():
            self._usage, self._cost = usage, cost

    def request_end(self, outcome: RequestOutcome = "ok", failure: Failure | None = None) -> None:
        """The model's answer is over. Does nothing where no request is open."""
        if self._request is not None and (cut := self._decode(b"", True)):
            self.text(cut)  # bytes that ended within a character
        request, self._request = self._request, None
        if request is None:
            return
        now = self._since = monotonic_ns()
        usage, cost = self._usage, self._cost
        answer: dict[str, Any] = {"provider": self._provider, **self.answer}
        if usage is not None and cost is None:
            cost = safely(self._recorder, self._price, usage, request.model)
            if cost is None:
                self._recorder.unpriced(answer.get("response_model") or request.model)
        self._forget_request()
        request.end(
            outcome,
            at=now,
            usage=usage,
            usage_source="none" if usage is None else "provider" if outcome == "ok" else "partial",
            cost=cost,
            unpriced=usage is not None and cost is None,
            failure=failure,
            **answer,
        )

    def _begin_request(self) -> Request:
        """The first sign of an answer, to a request that nobody announced."""
        request = self._open_request(None, {"t0": self._since})
        request.last = self._since
        return request

    def _open_request(self, model: str | None, facts: dict[str, Any]) -> Request:
        facts = {"provider": self._provider, "streaming": True, **facts}
        self._request = self.run.request(model=model or self._model or "unknown", **facts)
        return self._request

    def _turn(self, kind: ChunkKind, key: Hashable, names: dict[str, str | None]) -> None:
        """Another part than that of the last piece, begun now unless it is open."""
        request = self._request or self._begin_request()
        self._noted()
        index = self._indexes.get((kind, key), -1)
        part = request.parts.get(index)
        if part is None:
            index = self._indexes[kind, key] = max(self._indexes.values(), default=-1) + 1
            names = {name: value for name, value in names.items() if isinstance(value, str)}
            part = request.open_part(index, kind, self._t, **names)
            if kind == "tool_call":
                request.first_token(part, self._t)  # its name is the first thing a model says of a tool call
        self._kind, self._key, self._part, self._due = kind, key, part, 0.0

    def _price(self, usage: Usage, asked: str) -> Cost | None:
        from genai_prices import calc_price

        model, provider = self.answer.get("response_model") or asked, self.answer.get("provider") or self._provider
        counts = {name: count for name in usage if name != "details" and (count := usage[name])}
        counted = SimpleNamespace(**counts, has_values=lambda: bool(counts), cost=None)
        try:
            counted.cost = calc_price(counted, model, provider_id=provider).total_price
        except LookupError:  # the list does not know it; the user's own prices may
            pass
        return self._recorder.pricing.cost(counted, model=model, asked=asked, provider=provider)

    # --- tools, and the rest ---

    def tool_start(self, tool_name: str, args: Any = None, *, tool_call_id: str | None = None) -> None:
        """A tool is about to be executed."""
        if self._request is not None:
            self._request.close_parts()  # what the model said before stands before it
            self._leave_part()
        self._tools[tool_call_id or tool_name] = self.run.tool_start(tool_name, tool_call_id, self._content(args))

    def tool_end(
        self,
        tool_name: str,
        result: Any = None,
        *,
        tool_call_id: str | None = None,
        outcome: ToolOutcome = "ok",
        failure: Failure | None = None,
    ) -> None:
        """A tool has been executed; one that nobody saw begin is told as a whole, without a duration."""
        key = self._tools.pop(tool_call_id or tool_name, None)
        seen = key is not None
        if key is None:
            key = self.run.tool_start(tool_name, tool_call_id)
        self.run.tool_end(key, outcome, result=self._content(result), failure=failure, executed=seen)

    def error(self, message: str, exception_type: str = "Error", where: Where = "run", **facts: Any) -> None:
        """The stream says that something failed; from `where` `model` or `run`, it has failed itself."""
        failure = Failure(exception_type, message)
        self.run.error(failure, where, **facts)
        if where in ("model", "run"):
            self._failure, self.outcome = failure, "error"

    def custom(self, name: str, payload: Any = None) -> None:
        """Anything else."""
        self.run.custom(name, self._content(payload))

    def _content(self, value: Any) -> Json:
        return snapshot(value) if self._recorder.wants_content else None

    # --- the end ---

    def failed(self, error: Exception) -> None:
        """The stream raised `error`."""
        failure = Failure.of(error)
        request = self._request
        facts = {"request": request.number} if request is not None else {}
        self.run.error(failure, "run" if request is None else "model", **facts)
        self.end("error", failure)

    def end(self, outcome: RunOutcome, failure: Failure | None = None) -> None:
        """The stream is over, or nobody will ask for more of it."""
        if not self.run.ended:
            if outcome in ("completed", "abandoned") and self.outcome is not None:
                outcome, failure = self.outcome, self._failure
            safely(self._recorder, self.request_end, _REQUEST_OUTCOME.get(outcome, "cancelled"), failure)
            self.run.end(outcome, failure)
        self._recorder.close_run(self.run)
