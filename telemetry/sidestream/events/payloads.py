"""Payloads of the event types, and the values of their fields.

`docs/events.md` describes each field for readers of the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

Json: TypeAlias = Any
"""Value with a JSON representation: None, bool, int, float, str, list, or dict with str keys."""

RunOutcome: TypeAlias = Literal["completed", "error", "cancelled", "timed_out", "abandoned"]
"""Outcome of a run. Readers add `lost`: a run without `agent_end` whose writer is gone."""

RequestOutcome: TypeAlias = Literal["ok", "error", "cancelled", "interrupted", "skipped", "retry"]
"""Outcome of a model request. `interrupted`: the consumer left in mid-stream; `skipped`: answered without the model;"""

ToolOutcome: TypeAlias = Literal[
    "ok", "retry", "failed", "deferred", "denied", "invalid", "unknown", "skipped", "cancelled"
]
ChunkKind: TypeAlias = Literal["text", "thinking", "tool_call", "other"]
UsageSource: TypeAlias = Literal["provider", "partial", "none"]
CostSource: TypeAlias = Literal["provider", "genai-prices", "override"]


class Payload(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base class of the payloads. Absent fields are omitted from the JSON, because absent is not zero.

    Payloads support read access like dicts: `data["text"]`, `data.get("total_cost_usd", 0.0)`, `"text" in data`.
    """

    content_fields: ClassVar[tuple[str, ...]] = ()
    """Fields with text of people and models, subject to the content policy of the exporter."""

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise KeyError(key)
        return getattr(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the field `key`, or `default` if the field is absent."""
        value = getattr(self, key, None) if key in self.__struct_fields__ else None
        return default if value is None else value

    def __contains__(self, key: object) -> bool:
        return key in self.__struct_fields__ and getattr(self, str(key)) is not None

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.__struct_fields__ if getattr(self, name) is not None)

    def keys(self) -> list[str]:
        """Names of the present fields, so that `dict(data)` works."""
        return list(self)


class Usage(Payload, frozen=True, kw_only=True):
    """Tokens of one request or one run. Counts are absent if the provider did not report them.

    Input *includes* cache reads and writes, output *includes* reasoning, as in OpenTelemetry's GenAI conventions.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    """Cache writes with a lifetime of one hour, at a higher price; included in `cache_write_tokens`."""
    reasoning_tokens: int | None = None
    input_audio_tokens: int | None = None
    cache_audio_read_tokens: int | None = None
    output_audio_tokens: int | None = None
    counts: dict[str, int | float] | None = None
    """Further billable counts, under the names of genai-prices: `web_searches`, `output_image_tokens` …"""
    details: dict[str, int | float] | None = None
    """Counters under the provider's own names."""

    @property
    def total_tokens(self) -> int:
        """Input plus output tokens; an absent count adds nothing."""
        return (self.input_tokens or 0) + (self.output_tokens or 0)


class Attempt(Payload, frozen=True, kw_only=True):
    """Failed attempt of a fallback model. Its usage is billed, and included in the totals of the run."""

    content_fields: ClassVar[tuple[str, ...]] = ("error",)

    model: str
    provider: str | None = None
    outcome: Literal["error", "rejected"]
    error: Json = None
    duration_seconds: float | None = None
    usage: Usage | None = None
    cost_usd: float | None = None


class AgentStart(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("prompt",)

    parent_run_id: str | None = None
    parent_agent_name: str | None = None
    parent_tool_call_id: str | None = None
    parent_link: Literal["tool", "output", "stream"] | None = None
    """Origin of the run within the parent: a tool, an output function or validator, or a tapped stream."""
    root_run_id: str
    depth: int | None = None
    """Number of enclosing runs; absent for a root run."""
    conversation_id: str | None = None
    """Conversation id set by the application; absent otherwise, never generated."""
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    sampled: bool | None = None
    """Whether the trace is sampled, as decided at its start; absent if no exporter sends spans."""
    instrumented: bool | None = None
    """True if pydantic-ai's own Instrumentation creates spans for this run."""
    description: str | None = None
    """Description of the agent; absent if the description is a template."""
    model: str | None = None
    mode: Literal["graph", "realtime"] | None = None
    prompt: Json = None
    tags: dict[str, str] | None = None
    attempt: int | None = None
    """Number of the run among attempts at the same task, from 1, as marked by the application."""
    attempt_of: str | None = None
    """Run id of the first attempt."""
    pid: int | None = None
    """Process that observed the run, so that readers can detect a dead writer."""
    host: str | None = None
    process: str | None = None
    """Identity of the process on its machine, `boot/PID namespace/start`; absent if the system provides none."""


class History(Payload, frozen=True, kw_only=True):
    """Range of messages that the log already holds: messages of an earlier request, ending with its answer."""

    run_id: str | None = None
    """Run of the earlier request; absent for this run."""
    request: int
    start: int | None = None
    """Index of the first message within the earlier request; absent for 0."""
    count: int
    at: int | None = None
    """Position in the new request; absent for 0."""


class LLMStart(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("instructions", "stop_sequences", "sent", "tools", "output_schema")

    request: int
    """Number of the request in the run, from 1."""
    span_id: str | None = None
    """OpenTelemetry id of the request's span, in hex."""
    model: str
    provider: str | None = None
    streaming: bool
    messages: int | None = None
    """Number of messages sent, history included."""
    instructions: Json = None
    """System instructions; present in the first request of the run and after a change."""
    settings: dict[str, Json] | None = None
    stop_sequences: Json = None
    history: list[History] | None = None
    """Sent messages that the log already holds. The others are in `sent`, in order."""
    sent: Json = None
    """Sent messages that the log does not hold yet, each with `kind` and `parts` as named by pydantic-ai. The
    content of a part with `as_in` is in another event of the run: the prompt, or the result of the same tool call."""
    rewritten: bool | None = None
    """True if messages of the previous request were removed or changed, for example by a history processor."""
    tools: Json = None
    """Tool definitions; present in the first request of the run and after a change."""
    tools_digest: str | None = None
    """Digest of `tools` and `output_schema`, which reveals a change if content is not exported."""
    output_mode: str | None = None
    """Requested form of the output: `text`, `tool`, `native`, `prompted` …"""
    output_schema: Json = None
    """Present together with `tools`."""


class LLMChunk(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("text",)

    request: int | None = None
    part: int | None = None
    """Index of the part within the response."""
    kind: ChunkKind
    part_kind: str | None = None
    """Name of the part in the provider library, for kind `other`."""
    tool_name: str | None = None
    tool_call_id: str | None = None
    invented: bool | None = None
    """True if the model invented the tool name, which is then treated as content."""
    text: Json = None
    """The pieces, joined."""
    lengths: list[int] | None = None
    """Length of each piece in characters (Unicode code points), for splitting `text` into the pieces."""
    offsets_us: list[int] | None = None
    """Arrival time of each piece in whole microseconds after this event's `offset`. Integers, because encoding
    fractional numbers takes eight times as long."""


class LLMEnd(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("part_details", "error")

    request: int
    span_id: str | None = None
    """As in `llm_start`."""
    outcome: RequestOutcome
    duration_seconds: float
    start_unknown: bool | None = None
    """True if the request was sent before the stream was tapped: `duration_seconds` starts at the tap, and the time
    to the first token is unknown."""
    model: str | None = None
    """Requested model, as in `llm_start`."""
    streaming: bool | None = None
    response_model: str | None = None
    response_id: str | None = None
    provider: str | None = None
    finish_reason: str | None = None
    raw_finish_reason: str | None = None
    """Finish reason in the provider's own vocabulary, if different from pydantic-ai's."""
    service_tier: str | None = None
    served_by: str | None = None
    """Upstream provider behind a gateway."""
    server_address: str | None = None
    """Host of the provider, without the rest of the URL."""
    server_port: int | None = None
    provider_details: dict[str, Json] | None = None
    """Further details from the provider: `batch`, `moderation`, `safety_ratings`, `requests` …"""
    part_details: Json = None
    """Details of the answer's parts beyond the chunks: `part` (index), `id`, `signature`, `citations` …"""
    usage: Usage | None = None
    usage_source: UsageSource
    cost_usd: float | None = None
    cost_source: CostSource | None = None
    price_version: str | None = None
    unpriced: bool | None = None
    """True if tokens were used and no price is known: the cost is missing, not zero."""
    failed_attempts: list[Attempt] | None = None
    chunks: int | None = None
    """Number of stream events that carried or opened a part."""
    time_to_first_chunk_seconds: float | None = None
    time_to_first_token_seconds: dict[ChunkKind, float] | None = None
    """Seconds by kind, from sending the request to the first non-empty piece, without the consumer's own delay."""
    provider_wait_seconds: float | None = None
    """Seconds spent waiting for the provider after the stream was open."""
    consumer_hold_seconds: float | None = None
    """Seconds that the consumer spent between receiving an event and requesting the next."""
    gap_max_seconds: float | None = None
    """Longest wait for the provider after the first chunk, in seconds."""
    stalls: int | None = None
    """Number of waits after the first chunk longer than the sidecar's `stall_seconds`."""
    exception_type: str | None = None
    error: Json = None


class ToolStart(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("args",)

    tool_name: str
    tool_call_id: str | None = None
    invented: bool | None = None
    """As in `llm_chunk`."""
    args: Json = None
    attempt: int | None = None
    """Number of the try of this tool in the run, from 1; each retry adds one."""
    executed_by: Literal["provider"] | None = None
    """`provider` if the provider's server executes the tool (web search …); absent for the application."""
    span_id: str | None = None
    """OpenTelemetry id of the call's span, in hex."""


class ToolEnd(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("result", "error")

    tool_name: str
    tool_call_id: str | None = None
    invented: bool | None = None
    """As in `llm_chunk`."""
    span_id: str | None = None
    """As in `tool_start`."""
    outcome: ToolOutcome
    duration_seconds: float | None = None
    """Absent if the tool was never executed."""
    result: Json = None
    exception_type: str | None = None
    error: Json = None


class Retry(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("message",)

    cause: str
    """`validation_error`, `model_retry`, `unknown_tool`, `unavailable_tool` or `no_output`."""
    attempt: int | None = None
    max_attempts: int | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    invented: bool | None = None
    """As in `llm_chunk`."""
    message: Json = None


class Progress(Payload, frozen=True, kw_only=True):
    iteration: int
    """Model requests so far."""
    total_tokens: int | None = None
    total_cost_usd: float | None = None


class FinalResult(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("output",)

    output_type: str | None = None
    output: Json = None


class Frame(Payload, frozen=True, kw_only=True):
    """Frame of a traceback: a position in the code, without values."""

    file: str
    """Path of the file; for an installed library, relative from the package's folder."""
    line: int
    function: str


class Raised(Payload, frozen=True, kw_only=True):
    """Exception linked to another one: a cause, a context, or a member of a group."""

    content_fields: ClassVar[tuple[str, ...]] = ("error",)

    link: Literal["cause", "context", "member"]
    """`cause`: the previous exception was raised from this one; `context`: raised while handling this one;"""
    exception_type: str
    error: Json = None
    frames: list[Frame] | None = None


class Error(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("error",)

    error: Json = None
    exception_type: str | None = None
    """Qualified name; without module for builtins."""
    where: Literal["model", "tool", "output", "run"]
    request: int | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    invented: bool | None = None
    """As in `llm_chunk`."""
    frames: list[Frame] | None = None
    """Traceback without values, the innermost frame last."""
    chain: list[Raised] | None = None
    """Causes, contexts and group members of the exception."""


class AgentEnd(Payload, frozen=True, kw_only=True):
    outcome: RunOutcome
    success: bool
    duration_seconds: float
    total_iterations: int | None = None
    total_tokens: int | None = None
    tool_calls: int | None = None
    retries: int | None = None
    usage: Usage | None = None
    """This run's own requests, failed fallback attempts included."""
    cost_usd: float | None = None
    """Absent if no request was priced. A lower bound if `events.is_lower_bound` returns True."""
    usage_with_children: Usage | None = None
    """Usage including all sub-agents; absent if there were none."""
    cost_usd_with_children: float | None = None
    unpriced_requests: int | None = None
    """Own requests with token usage but no known price; missing in `cost_usd`."""
    partial_requests: int | None = None
    """Own requests cut off before their whole usage was reported; `usage` and `cost_usd` hold the reported part."""
    unmeasured_requests: int | None = None
    """Own answered requests without any reported usage; missing in `usage` and `cost_usd`."""
    sub_agents: int | None = None
    """Runs started by the tools, outputs or stream of this run."""
    incomplete_sub_agents: int | None = None
    """Sub-agents that were still running at the end of this run, or whose own figures are lower bounds."""
    exception_type: str | None = None


class Score(Payload, frozen=True, kw_only=True):
    """Judgement of a run by a person or a program. Any process may write a score at any time, so its `seq` is a
    random number and not a place among the events of the run."""

    content_fields: ClassVar[tuple[str, ...]] = ("comment",)

    name: str
    """Criterion, such as `helpful`. The latest score of a name counts."""
    value: bool | float | None = None
    label: str | None = None
    """Judgement as a word, such as `pass`."""
    comment: Json = None
    trace_id: str | None = None
    span_id: str | None = None
    """OpenTelemetry ids of the run, if known to the writer."""

    @property
    def number(self) -> float | None:
        """Value as a number: 1 for true, 0 for false; None without a value."""
        return None if self.value is None else float(self.value)


class Custom(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("payload",)

    name: str
    payload: Json = None
    tool_name: str | None = None
    tool_call_id: str | None = None
