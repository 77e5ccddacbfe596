"""Conversion of events to finished spans: `invoke_agent`, with `chat`, `execute_tool` and sub-agents inside.

Span ids derive from the run id and the sequence number of the span's first event, times from the run's monotonic clock:
every export of a log gives equal spans. A span is built from its end event; only open runs, requests and tool calls are
kept, and a bounded number of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from sidestream.events import (
    AgentEnd,
    AgentStart,
    Custom,
    Error,
    FinalResult,
    LLMChunk,
    LLMEnd,
    LLMStart,
    Payload,
    Retry,
    StreamEvent,
    ToolEnd,
    ToolStart,
)
from sidestream.events.ids import span_id_of, trace_id_of
from sidestream.events.outcomes import verdict_of
from sidestream.metrics.definitions import convention_name
from sidestream.recording.content import ContentPolicy
from sidestream.recording.sampling import HeadSampler

from .content import (
    Answer,
    as_json,
    as_text,
    input_messages,
    instructions_json,
    output_message,
    prompt_message,
    result_message,
    retry_message,
    stacktrace,
    text_limit,
    texts_of,
    tool_descriptions,
    tools_json,
)
from .figures import bounds_of, run_usage_of, settings_of, usage_of
from .runs import (
    MAX_EVENTS,
    MAX_OPEN,
    Attributes,
    Open,
    Run,
    Span,
    SpanEvent,
    bound,
    clamp,
    error_text,
    hex_id,
    nanos,
    span_number,
    unix_ns,
)
from .semantic_conventions import SemanticConventions
from .settings import Placement

Instrumented: TypeAlias = Literal["run", "all", "none"]
"""Spans of a run that pydantic-ai's own Instrumentation traces too: `invoke_agent` only, all, or none."""

RunUsage: TypeAlias = Literal["own", "total", "none"]
"""Tokens on an `invoke_agent` span: of the run's own requests, in total with sub-agents, or none."""

MAX_RUNS = 10_000
"""Runs in progress kept at once; beyond, the run without events for longest is evicted."""

MAX_ENDED = 1_000
"""Ended runs whose trace ids are kept, to link later scores."""


class Builder:
    """Builder of spans from events.

    Args:
        names: Names of spans and attributes.
        sampler: Head sampler for traces whose events hold no sampling decision.
        instrumented: Spans built for runs that pydantic-ai's Instrumentation traces too.
        content: Content policy already applied to the events.
        placement: Placement of content, on the span or in a span event.
        run_usage: Tokens on the spans of runs.
    """

    def __init__(
        self,
        names: SemanticConventions,
        sampler: HeadSampler,
        *,
        instrumented: Instrumented,
        content: ContentPolicy,
        placement: Placement,
        run_usage: RunUsage = "own",
    ) -> None:
        self._names = names
        self._sampler = sampler
        self._instrumented = instrumented
        self._content = content.mode != "none"
        self._limit = text_limit(content)
        self._placement = placement
        self._run_usage = run_usage
        self._runs: dict[str, Run] = {}
        self._traces: dict[str, int] = {}
        self.forgotten = 0
        """Runs evicted before their end."""
        self._handlers: dict[type[Payload], Callable[[Run, StreamEvent, Any], Span | None]] = {
            AgentStart: self._agent_start,
            LLMStart: self._llm_start,
            LLMChunk: self._llm_chunk,
            LLMEnd: self._llm_end,
            ToolStart: self._tool_start,
            ToolEnd: self._tool_end,
            Retry: self._retry,
            FinalResult: self._final_result,
            Error: self._error,
            Custom: self._custom,
            AgentEnd: self._agent_end,
        }

    def take(self, event: StreamEvent) -> tuple[Run | None, Span | None]:
        """Run of `event`, and the span that `event` ends; None for events without spans and for open spans."""
        handler = self._handlers.get(type(event.data))
        if handler is None:
            return None, None
        run = self._run(event)
        return run, handler(run, event, event.data)

    def _run(self, event: StreamEvent) -> Run:
        run = self._runs.pop(event.run_id, None)
        if run is None or type(event.data) is AgentStart:
            run = Run(event.run_id, clamp(unix_ns(event.timestamp) - nanos(event.offset)))
            run.root_run_id = event.run_id
            run.trace_id = int(trace_id_of(event.run_id), 16)
            run.sampled = self._sampler(trace_id_of(event.run_id), None)
        self._runs[event.run_id] = run  # moved to the end: the dict is ordered by last event
        if len(self._runs) > MAX_RUNS:
            del self._runs[next(iter(self._runs))]
            self.forgotten += 1
        return run

    def trace_of(self, run_id: str) -> int | None:
        """Trace id of a run that is in progress or ended recently; None if unknown."""
        run = self._runs.get(run_id)
        return self._traces.get(run_id) if run is None else run.trace_id

    def _remember_trace(self, run: Run) -> None:
        self._traces[run.run_id] = run.trace_id
        if len(self._traces) > MAX_ENDED:
            del self._traces[next(iter(self._traces))]

    # --- runs ---

    def _agent_start(self, run: Run, event: StreamEvent, data: AgentStart) -> None:
        run.start = data
        run.root_run_id = data.root_run_id or event.run_id
        run.trace_id = hex_id(data.trace_id, 16) or int(trace_id_of(run.root_run_id), 16)
        run.parent_id = hex_id(data.parent_span_id, 8) or self._parent(data)
        sampled = data.get("sampled")
        run.sampled = self._sampler(f"{run.trace_id:032x}", None) if sampled is None else sampled
        run.instrumented = bool(data.get("instrumented"))
        if data.prompt is not None:
            run.new_messages.append(prompt_message(data.prompt))
            run.content[self._names.input] = as_json(run.new_messages)

    def _parent(self, data: AgentStart) -> int | None:
        """Id of the parent span, derived from the parent run, for an event that does not name its parent span.

        The parent is the tool call that started the run if it is known, else the parent run. None for a root run.
        """
        if data.parent_run_id is None:
            return None
        parent = self._runs.get(data.parent_run_id)
        if parent is not None and self._mode(parent) == "none":
            return parent.parent_id
        if parent is not None and self._mode(parent) == "all" and data.parent_tool_call_id is not None:
            for (_, call_id), calls in parent.tools.items():
                if call_id == data.parent_tool_call_id and calls:
                    return span_number(calls[-1].data, data.parent_run_id, calls[-1].seq)
        return int(span_id_of(data.parent_run_id, 0), 16)

    def _mode(self, run: Run) -> Instrumented:
        return self._instrumented if run.instrumented else "all"

    def _agent_end(self, run: Run, event: StreamEvent, data: AgentEnd) -> Span | None:
        del self._runs[event.run_id]
        self._remember_trace(run)
        if self._mode(run) == "none":
            return None
        names, start = self._names, run.start
        attributes = {
            names.operation: names.invoke_agent,
            names.agent: event.agent_name,
            names.agent_description: start.description if start else None,
            names.conversation: start.conversation_id if start else None,
            names.request_model: start.model if start else None,
            **run_usage_of(names, data, self._run_usage),
            "sidestream.outcome": data.outcome,
            "sidestream.cost.usd": data.cost_usd,
            "sidestream.cost.usd_with_children": data.cost_usd_with_children,
            **bounds_of(data),
            "sidestream.unpriced_requests": data.unpriced_requests,
            "sidestream.partial_requests": data.partial_requests,
            "sidestream.unmeasured_requests": data.unmeasured_requests,
            "sidestream.requests": data.total_iterations,
            "sidestream.tool_calls": data.tool_calls,
            "sidestream.retries": data.retries,
            "sidestream.sub_agents": data.sub_agents,
            "sidestream.incomplete_sub_agents": data.incomplete_sub_agents,
            "sidestream.output_type": run.output_type,
            "sidestream.mode": start.mode if start else None,
            **{f"sidestream.tag.{name}": value for name, value in ((start.tags if start else None) or {}).items()},
        }
        started = run.started_ns if start else clamp(run.at(event) - nanos(data.duration_seconds))
        if self._content:
            self._place(run.content, attributes, run.span_events, run.at(event))
        return self._span(
            run,
            f"{names.invoke_agent} {event.agent_name}" if event.agent_name else names.invoke_agent,
            seq=0,
            parent_id=run.parent_id,
            times=(started, started + nanos(data.duration_seconds)),
            attributes=attributes,
            data=data,
            span_events=run.span_events,
            dropped_span_events=run.dropped_span_events,
            description=run.error if data.outcome == "error" else None,
        )

    # --- requests ---

    def _llm_start(self, run: Run, event: StreamEvent, data: LLMStart) -> None:
        bound(run.requests)
        new_messages = input_messages(data, run.new_messages) if self._content else []
        run.requests[data.request] = Open(event.seq, run.at(event), data, new_messages)
        for name, text in (instructions_json(self._names, data) | tools_json(self._names, data)).items():
            run.content.setdefault(name, text)
        run.tool_descriptions |= tool_descriptions(data)
        run.new_messages = []

    def _llm_chunk(self, run: Run, event: StreamEvent, data: LLMChunk) -> None:
        request = run.requests.get(data.request or 0)
        if request is not None and self._content:
            if request.answer is None:
                request.answer = Answer(self._limit)
            request.answer.add(data)

    def _llm_end(self, run: Run, event: StreamEvent, data: LLMEnd) -> Span | None:
        request = run.requests.pop(data.request, None)
        if self._mode(run) != "all":
            return None
        names, start = self._names, request.data if request else None
        provider = data.provider or (start.provider if start else None)
        model = data.model or (start.model if start else None)
        streaming = data.streaming if data.streaming is not None else bool(start and start.streaming)
        attributes = {
            names.operation: names.chat,
            names.provider: convention_name(provider) if provider else None,
            names.request_model: model,
            names.request_stream: streaming or None,
            names.conversation: run.start.conversation_id if run.start else None,
            **settings_of(names, start.settings if start else None),
            names.response_id: data.response_id,
            names.response_model: data.response_model,
            names.finish_reasons: None if data.finish_reason is None else [data.finish_reason],
            names.first_chunk: data.time_to_first_chunk_seconds,
            names.output_type: names.output_types.get((start and start.output_mode) or ""),
            names.server_address: data.server_address,
            names.server_port: data.server_port,
            **usage_of(names, data.usage),
            "sidestream.outcome": data.outcome,
            "sidestream.usage_source": data.usage_source,
            "sidestream.cost.usd": data.cost_usd,
            "sidestream.cost.source": data.cost_source,
            "sidestream.cost.price_version": data.price_version,
            "sidestream.cost.unpriced": data.unpriced,
            **bounds_of(data),
            "sidestream.service_tier": data.service_tier,
            "sidestream.served_by": data.served_by,
            "sidestream.raw_finish_reason": data.raw_finish_reason,
            "sidestream.request": data.request,
            "sidestream.attempts": len(data.failed_attempts) + 1 if data.failed_attempts else None,
            "sidestream.chunks": data.chunks,
            **{
                f"sidestream.time_to_first_token.{kind}": seconds
                for kind, seconds in (data.time_to_first_token_seconds or {}).items()
            },
            "sidestream.provider_wait": data.provider_wait_seconds,
            "sidestream.consumer_hold": data.consumer_hold_seconds,
            "sidestream.gap_max": data.gap_max_seconds,
            "sidestream.stalls": data.stalls,
        }
        started, ended = run.times(event, request, data.duration_seconds)
        span_events = self._attempts(data, started)
        if self._content:
            content = self._messages(request, data) if request else {}
            self._place(content, attributes, span_events, ended)
        return self._span(
            run,
            f"{names.chat} {model}" if model else names.chat,
            client=True,
            seq=request.seq if request else event.seq,
            parent_id=run.span_id,
            times=(started, ended),
            attributes=attributes,
            data=data,
            span_events=span_events,
            description=error_text(data.error),
        )

    def _messages(self, request: Open, data: LLMEnd) -> Attributes:
        answer = request.answer.messages(data) if request.answer else []
        return {
            **instructions_json(self._names, request.data),
            **tools_json(self._names, request.data),
            **({self._names.stop_sequences: stop} if (stop := texts_of(request.data.stop_sequences)) else {}),
            **({self._names.input: as_json(request.new_messages)} if request.new_messages else {}),
            **({self._names.output: as_json(answer)} if answer else {}),
        }

    def _attempts(self, data: LLMEnd, at: int) -> list[SpanEvent]:
        span_events = []
        for tried in (data.failed_attempts or ())[:MAX_EVENTS]:
            at = clamp(at + nanos(tried.duration_seconds or 0))
            attributes = {
                self._names.request_model: tried.model,
                self._names.provider: convention_name(tried.provider) if tried.provider else None,
                "sidestream.outcome": tried.outcome,
                "sidestream.cost.usd": tried.cost_usd,
                "sidestream.error": error_text(tried.error),
                **usage_of(self._names, tried.usage),
            }
            span_events.append(("sidestream.failed_attempt", at, attributes))
        return span_events

    # --- tools ---

    def _tool_start(self, run: Run, event: StreamEvent, data: ToolStart) -> None:
        if run.open_tools < MAX_OPEN:
            run.open_tools += 1
            calls = run.tools.setdefault((data.tool_name, data.tool_call_id), deque())
            calls.append(Open(event.seq, run.at(event), data))

    def _tool_end(self, run: Run, event: StreamEvent, data: ToolEnd) -> Span | None:
        key = (data.tool_name, data.tool_call_id)
        calls = run.tools.get(key)
        call = calls.popleft() if calls else None
        if call is not None:
            run.open_tools -= 1
            if not calls:
                del run.tools[key]
        by_provider = call is not None and call.data.executed_by == "provider"
        # The result of a provider's own tool is part of the answer, and is not sent to the model again.
        if not by_provider and (message := result_message(data)) is not None:
            run.new_messages.append(message)
        if self._mode(run) != "all":
            return None
        names = self._names
        attributes = {
            names.operation: names.execute_tool,
            names.tool: data.tool_name,
            names.tool_call: data.tool_call_id,
            names.tool_type: names.provider_tool if by_provider else names.function_tool,
            names.tool_description: run.tool_descriptions.get(data.tool_name),
            names.agent: event.agent_name,
            names.conversation: run.start.conversation_id if run.start else None,
            "sidestream.outcome": data.outcome,
            "sidestream.attempt": call.data.attempt if call else None,
        }
        started, ended = run.times(event, call, data.duration_seconds)
        span_events: list[SpanEvent] = []
        if self._content:
            content = {}
            if call is not None and call.data.args is not None:
                content[names.tool_arguments] = as_text(call.data.args)
            if data.result is not None:
                content[names.tool_result] = as_text(data.result)
            self._place(content, attributes, span_events, ended)
        return self._span(
            run,
            f"{names.execute_tool} {data.tool_name}",
            seq=call.seq if call else event.seq,
            parent_id=run.span_id,
            times=(started, ended),
            attributes=attributes,
            data=data,
            span_events=span_events,
            description=error_text(data.error),
        )

    # --- events within a run ---

    def _retry(self, run: Run, event: StreamEvent, data: Retry) -> None:
        attributes = {
            "sidestream.cause": data.cause,
            "sidestream.attempt": data.attempt,
            "sidestream.max_attempts": data.max_attempts,
            self._names.tool: data.tool_name,
            self._names.tool_call: data.tool_call_id,
        }
        run.note("sidestream.retry", run.at(event), attributes)
        if (message := retry_message(data)) is not None:
            run.new_messages.append(message)

    def _final_result(self, run: Run, event: StreamEvent, data: FinalResult) -> None:
        run.output_type = data.output_type
        if data.output is not None:
            run.content[self._names.output] = as_json([output_message(data.output)])

    def _error(self, run: Run, event: StreamEvent, data: Error) -> None:
        run.error = error_text(data.error)
        stack = stacktrace(data)
        if stack is not None and len(run.stacks) < MAX_OPEN:
            run.stacks[data.request if data.where == "model" else data.tool_call_id] = stack
        if data.where in ("output", "run"):  # other errors are recorded on the span of their request or tool call
            attributes = {
                "exception.type": data.exception_type,
                "exception.message": error_text(data.error),
                "exception.stacktrace": stack,
                "sidestream.where": data.where,
            }
            run.note("exception", run.at(event), attributes)

    def _custom(self, run: Run, event: StreamEvent, data: Custom) -> None:
        attributes = {
            "sidestream.name": data.name,
            "sidestream.payload": None if data.payload is None else as_text(data.payload),
            self._names.tool: data.tool_name,
            self._names.tool_call: data.tool_call_id,
        }
        run.note("sidestream.custom", run.at(event), attributes)

    # --- shared by all spans ---

    def _span(
        self,
        run: Run,
        name: str,
        *,
        client: bool = False,
        seq: int,
        parent_id: int | None,
        times: tuple[int, int],
        attributes: Attributes,
        data: LLMEnd | ToolEnd | AgentEnd,
        span_events: list[SpanEvent],
        dropped_span_events: int = 0,
        description: str | None,
    ) -> Span:
        failed = verdict_of(data.outcome) == "fault"
        if failed:
            known = data.exception_type if data.outcome in ("error", "failed") else None
            attributes[self._names.error_type] = known or data.outcome
            if data.exception_type is not None and type(data) is not AgentEnd:
                raised = {"exception.type": data.exception_type, "exception.message": description}
                key = data.request if isinstance(data, LLMEnd) else data.get("tool_call_id")
                if key is not None and (stack := run.stacks.pop(key, None)) is not None:
                    raised["exception.stacktrace"] = stack
                span_events.append(("exception", times[1], raised))
        attributes["sidestream.run_id"] = run.run_id
        return Span(
            name=name,
            client=client,
            trace_id=run.trace_id,
            span_id=run.span_id if isinstance(data, AgentEnd) else span_number(data, run.run_id, seq),
            parent_id=parent_id,
            start=times[0],
            end=clamp(max(times)),
            attributes=attributes,
            span_events=span_events,
            dropped_span_events=dropped_span_events,
            failed=failed,
            description=description if failed else None,
            run_id=run.run_id,
            seq=seq,
        )

    def _place(self, content: Attributes, attributes: Attributes, span_events: list[SpanEvent], at: int) -> None:
        if content and self._placement != "event":
            attributes.update(content)
        if content and self._placement != "span":
            span_events.append((self._names.details, at, content))
