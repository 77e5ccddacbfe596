"""`StreamRecorder`: interface through which adapters report the items of a stream."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Hashable
from types import SimpleNamespace
from typing import Any

import msgspec

from sidestream.events import ChunkKind, Json, RequestOutcome, RunOutcome, ToolOutcome, Usage
from sidestream.recording.failure import Failure
from sidestream.recording.pricing import Cost
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.records import Deltas
from sidestream.recording.request_recorder import RequestRecorder, monotonic_ns
from sidestream.recording.response import ResponseFacts
from sidestream.recording.run_recorder import RunRecorder, Where
from sidestream.recording.snapshot import snapshot

from .finish_reasons import FINISH_REASONS

_NOTHING = Deltas(-1)
_NO_KEY: Hashable = object()


class StreamRecorder:
    """Records the meaning of a stream's items as reported by an adapter. One item may cause several calls, or none."""

    def __init__(self, recorder: Recorder, run: RunRecorder, *, model: str | None, provider: str | None) -> None:
        self.outcome: RunOutcome | None = None
        """Outcome announced by the stream itself. Valid even if the consumer leaves afterwards."""
        self._promised = False
        """Whether the stream announces its own outcome."""
        self.start_known = True
        """Whether the sending of the current request was observed. Otherwise its time to first token is unknown."""
        self._recorder = recorder
        self._run = run
        self._model = model
        self._provider = provider
        self._failure: Failure | None = None
        self._t_pull = self._t = monotonic_ns()
        """Times of the pull and arrival of the current item. Equal once the times are accounted for."""
        self._since = self._t
        """Time of the last item outside of a request, assumed as the start of an unannounced request."""
        self._opened = self._t
        """Time at which the stream was open. Later time belongs to the consumer or the provider."""
        self._tools: dict[str, int] = {}
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._request: RequestRecorder | None = None
        self._forget_request()

    def _close_parts(self) -> None:
        """Close the open parts, so that the text so far precedes the next event."""
        if self._request is not None:
            self._request.close_parts()
            self._open.clear()
            self._leave_part()

    def _forget_request(self) -> None:
        self.answer: dict[str, str] = {}
        """Facts of the current answer reported by `response`."""
        self._complete: bool | None = None
        """Whether the answer is complete; None if the stream does not announce completion."""
        self._usage: Usage | None = None
        self._cost: Cost | None = None
        self._indexes: dict[tuple[ChunkKind, Hashable], int] = {}
        self._open: set[int] = set()
        """Indexes of the parts that may continue."""
        self._leave_part()

    def _leave_part(self) -> None:
        self._kind: ChunkKind = "other"
        self._key = _NO_KEY
        self._deltas = _NOTHING

    def _account_times(self) -> None:
        """Account for the times of the item; further calls for the same item add no time."""
        if self._request is None:
            self._since = self._opened = self._t
        else:
            self._request.pulled(self._t_pull, self._t, chunk=False)
        self._t_pull = self._t

    # --- the answer of a model ---

    def text(self, text: str | bytes, part: Hashable = None) -> None:
        """Record a piece of text (bytes are UTF-8, split anywhere); `part` distinguishes interleaved texts."""
        self.piece("text", part, text if isinstance(text, str) else self._decode(text))

    def thinking(self, text: str, part: Hashable = None) -> None:
        """Record a piece of the model's reasoning."""
        self.piece("thinking", part, text)

    def tool_call(
        self, part: Hashable, args: str = "", *, tool_name: str | None = None, tool_call_id: str | None = None
    ) -> None:
        """Record a piece of a tool call written by the model: the JSON text of the arguments, or a part of it, and a
        name.

        The execution of the tool is recorded by `tool_start` and `tool_end`.
        """
        self.piece("tool_call", part, args, {"tool_name": tool_name, "tool_call_id": tool_call_id})

    def piece(self, kind: ChunkKind, key: Hashable, text: str, names: dict[str, str | None] | None = None) -> None:
        """Record a piece of any kind; `names`: those of the tool, or the `part_kind` of kind `other`."""
        # This is the caller's path: a further piece of the current part costs one list addition.
        if key != self._key or kind != self._kind:
            self._turn(kind, key, names or {})
        if not isinstance(text, str):
            raise TypeError(f"a piece of an answer is a str, not {type(text).__qualname__}")
        t = self._t
        self._deltas.noted += (text, self._t_pull, t)
        self._t_pull = t

    def request_start(self, model: str | None = None, **facts: Any) -> None:
        """Record the sending of a request; `facts` are further fields of `LLMStart`. Optional: otherwise the first
        piece of an answer starts a request. Ends a request that is still open."""
        self.request_end()
        self.start_known = True
        self._open_request(model, facts)
        self._t_pull = self._t

    def response(self, **facts: str | None) -> None:
        """Record facts of the answer: `response_model`, `response_id`, `finish_reason`, `provider`, `service_tier`,
        and `served_by`, the upstream provider behind a gateway. Finish reasons of providers are translated."""
        self.answer.update({name: value for name, value in facts.items() if isinstance(value, str) and value})
        if own_word := facts.get("finish_reason"):
            reason = self.answer["finish_reason"] = FINISH_REASONS.get(own_word.lower(), own_word)
            if reason != own_word:
                self.answer["raw_finish_reason"] = own_word
        if self._request is None:
            self._begin_request()

    def provider_is(self, name: str) -> None:
        """Set the provider of the model, unless the caller has named one."""
        self._provider = self._provider or name

    def promise_end(self) -> None:
        """Announce that the stream marks its end. Without the mark, the run is cut off, with the outcome `error`."""
        self._promised = True

    def answer_begins(self) -> None:
        """Start an answer whose stream marks its completion. An answer without the mark is an error."""
        self._complete = False
        if self._request is None:
            self._begin_request()

    def answer_complete(self, finish_reason: str | None = None) -> None:
        """Mark the answer as complete except for its usage. A consumer that leaves now has `completed` the run."""
        self.response(finish_reason=finish_reason)
        self._complete = True
        self.outcome = self.outcome or "completed"

    def usage(self, usage: Usage, cost: Cost | None = None) -> None:
        """Record the cumulative usage of the request. Without `cost`, the request is priced like any other.

        All-zero counts are ignored, because gateways that do not count report zeros.
        """
        usage = msgspec.convert(msgspec.to_builtins(usage), Usage)  # validates counts from third-party adapters
        if self._request is None:
            self._begin_request()
        if any(usage[name] for name in usage):
            self._usage, self._cost = usage, cost

    def request_end(self, outcome: RequestOutcome = "ok", failure: Failure | None = None) -> None:
        """Record the end of the model's answer. No-op if no request is open."""
        if self._request is not None and (cut := self._decode(b"", True)):
            self.text(cut)  # bytes that ended within a character
        request, self._request = self._request, None
        if request is None:
            return
        now = self._since = self._opened = monotonic_ns()
        usage, cost = self._usage, self._cost
        answer: dict[str, Any] = {"provider": self._provider, **self.answer}
        if usage is not None and cost is None:
            cost = safely(self._recorder, self._price, usage, request.model)
        start_known, self.start_known = self.start_known, True  # the next request is sent after this answer
        self._forget_request()
        facts = ResponseFacts(
            usage=usage,
            usage_source="none" if usage is None else "provider" if outcome == "ok" else "partial",
            cost=cost,
            unpriced=usage is not None and cost is None,
            **answer,
        )
        request.end(outcome, facts, at=now, failure=failure, start_known=start_known)

    def _begin_request(self) -> RequestRecorder:
        """Start an unannounced request at the first sign of its answer."""
        request = self._open_request(None, {"at": self._since})
        request.begin_stream(self._opened)
        return request

    def _open_request(self, model: str | None, facts: dict[str, Any]) -> RequestRecorder:
        model = model or self._model or self.answer.get("response_model") or "unknown"
        provider = self._provider or self.answer.get("provider")
        self._request = self._run.request(model=model, **{"provider": provider, "streaming": True, **facts})
        return self._request

    def _turn(self, kind: ChunkKind, key: Hashable, names: dict[str, str | None]) -> None:
        """Switch to another part, and start it unless it is open."""
        request = self._request or self._begin_request()
        self._account_times()
        index = self._indexes.get((kind, key), -1)
        if index in self._open:
            deltas = request.part(index)
            request.resume_part(deltas, kind, self._t)
        else:
            index = self._indexes[kind, key] = max(self._indexes.values(), default=-1) + 1
            self._open.add(index)
            names = {name: value for name, value in names.items() if isinstance(value, str)}
            # The tool's name is the first token of a tool call.
            deltas = request.open_part(index, kind, self._t, named=kind == "tool_call", **names)
        self._kind, self._key, self._deltas = kind, key, deltas

    def _price(self, usage: Usage, asked: str) -> Cost | None:
        from genai_prices import calc_price

        model, provider = self.answer.get("response_model") or asked, self.answer.get("provider") or self._provider
        counts = {name: count for name in usage if name.endswith("_tokens") and (count := usage[name])}
        counts |= usage.counts or {}
        counted = SimpleNamespace(**counts, has_values=lambda: bool(counts), cost=None)
        try:
            tier = {"service_tier": self.answer["service_tier"]} if "service_tier" in self.answer else None
            counted.cost = calc_price(counted, model, provider_id=provider, price_context=tier).total_price
        except LookupError:  # unlisted; the user's own prices may include the model
            pass
        return self._recorder.pricing.cost(counted, model=model, asked=asked, provider=provider)

    # --- tools, and the rest ---

    def tool_start(self, tool_name: str, args: Any = None, *, tool_call_id: str | None = None) -> None:
        """Record the start of a tool's execution."""
        self._close_parts()
        self._tools[tool_call_id or tool_name] = self._run.tool_start(tool_name, tool_call_id, self._content(args))

    def tool_end(
        self,
        tool_name: str,
        result: Any = None,
        *,
        tool_call_id: str | None = None,
        outcome: ToolOutcome = "ok",
        failure: Failure | None = None,
    ) -> None:
        """Record the end of a tool. A tool without a recorded start gets both events, and no duration."""
        key = self._tools.pop(tool_call_id or tool_name, None)
        seen = key is not None
        if key is None:
            key = self._run.tool_start(tool_name, tool_call_id)
        self._run.tool_end(key, outcome, result=self._content(result), failure=failure, executed=seen)

    def error(self, message: str, exception_type: str = "Error", where: Where = "run", **facts: Any) -> None:
        """Record an error in the stream. With `where` `model` or `run`, the stream itself has failed."""
        failure = Failure(exception_type, message)
        self._close_parts()
        if self._request is not None and where == "model":
            facts.setdefault("request", self._request.number)
        self._run.error(failure, where, **facts)
        if where in ("model", "run"):
            self._failure, self.outcome = failure, "error"

    def retry(self, **facts: Any) -> None:
        """Record a retry of the model; `facts` are the fields of `Retry`."""
        self._run.retry(**facts)

    def final_result(self, output: Any, output_type: str | None = None) -> None:
        """Record the output of the run."""
        self._run.final_result(self._content(output), output_type)

    def custom(self, name: str, payload: Any = None) -> None:
        """Record a custom event."""
        self._run.custom(name, self._content(payload))

    def _content(self, value: Any) -> Json:
        return snapshot(value) if self._recorder.wants_content else None
