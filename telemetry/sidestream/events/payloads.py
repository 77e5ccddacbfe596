"""The payloads: what an event of each type says, and the values that it may take.

Field by field, for readers of the log: `docs/events.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

Json: TypeAlias = Any
"""A value that JSON can hold: None, bool, int, float, str, list, or dict with str keys."""

RunOutcome: TypeAlias = Literal["completed", "error", "cancelled", "timed_out", "abandoned"]
"""How a run ended. `lost` exists only for readers: a run without `agent_end` whose writer is gone."""

RequestOutcome: TypeAlias = Literal["ok", "error", "cancelled", "interrupted", "skipped", "retry"]
"""How a model request ended. `interrupted`: the consumer left in mid-stream; `skipped`: answered without a model;
`retry`: a hook sent the model back before the answer was used."""

ToolOutcome: TypeAlias = Literal[
    "ok", "retry", "failed", "deferred", "denied", "invalid", "unknown", "skipped", "cancelled"
]
ChunkKind: TypeAlias = Literal["text", "thinking", "tool_call", "other"]
UsageSource: TypeAlias = Literal["provider", "partial", "none"]
CostSource: TypeAlias = Literal["provider", "genai-prices", "override"]


class Payload(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base of the payloads. Fields that are absent are left out, for absent is not zero.

    Payloads also read like the dicts they become: `data["text"]`, `data.get("total_cost_usd", 0.0)`, `"text" in data`.
    """

    content_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that hold what people and models wrote, and so obey the exporter's content policy."""

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise KeyError(key)
        return getattr(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        """The field `key`, or `default` where it is absent."""
        value = getattr(self, key, None) if key in self.__struct_fields__ else None
        return default if value is None else value

    def __contains__(self, key: object) -> bool:
        return key in self.__struct_fields__ and getattr(self, str(key)) is not None

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.__struct_fields__ if getattr(self, name) is not None)

    def keys(self) -> list[str]:
        """Names of the fields that are present, so that `dict(data)` works."""
        return list(self)


class Usage(Payload, frozen=True, kw_only=True):
    """Tokens of one request or one run. Counts the provider did not give are absent.

    Input *includes* cache reads and writes, output *includes* reasoning, as in OpenTelemetry's GenAI conventions.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    """Of the cache writes: those that are kept for an hour, which cost more."""
    reasoning_tokens: int | None = None
    input_audio_tokens: int | None = None
    cache_audio_read_tokens: int | None = None
    output_audio_tokens: int | None = None
    counts: dict[str, int | float] | None = None
    """Further counts that a price depends on, under genai-prices' names: `web_searches`, `output_image_tokens` …"""
    details: dict[str, int | float] | None = None
    """The provider's own counters, under the provider's own names."""

    @property
    def total_tokens(self) -> int:
        """Input plus output tokens; an absent count adds nothing."""
        return (self.input_tokens or 0) + (self.output_tokens or 0)


class Attempt(Payload, frozen=True, kw_only=True):
    """A model that a fallback model moved on from. What it used was paid for, and is in the run's totals."""

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
    """What of the parent started this run: a tool, an output function or validator, or a stream that was tapped."""
    root_run_id: str
    depth: int | None = None
    """How many runs this one is inside of; absent for one that is not a part of another."""
    conversation_id: str | None = None
    """Only one that the application knows, never one made up for this run."""
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    sampled: bool | None = None
    """Whether the trace is kept, as decided at its start; absent where no exporter asks."""
    instrumented: bool | None = None
    """True where pydantic-ai's own Instrumentation makes spans of this run."""
    model: str | None = None
    mode: Literal["graph", "realtime"] | None = None
    prompt: Json = None
    tags: dict[str, str] | None = None
    attempt: int | None = None
    """1 for the first of the runs that try the same thing, as the application says."""
    attempt_of: str | None = None
    """Id of the first of them."""
    pid: int | None = None
    """Process that observed the run, so that a reader can tell a writer that is gone."""
    host: str | None = None
    process: str | None = None
    """Identity of that process on its machine, `boot/PID namespace/start`; absent where the system has none."""


class History(Payload, frozen=True, kw_only=True):
    """Messages that the log holds already: a stretch of those of a request, its answer being the last of them."""

    run_id: str | None = None
    """Absent: this run."""
    request: int
    start: int | None = None
    """Index, among the messages of that request, of the first; absent for 0."""
    count: int
    at: int | None = None
    """Where they stand among the messages of the request that is sent; absent for 0."""


class LLMStart(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("instructions", "sent", "tools", "output_schema")

    request: int
    """1 for the first model request of the run."""
    span_id: str | None = None
    """OpenTelemetry id of the request's span, in hex."""
    model: str
    provider: str | None = None
    streaming: bool
    messages: int | None = None
    """Number of messages sent, history included."""
    instructions: Json = None
    """Given when they are new or have changed since the last request of this run."""
    settings: dict[str, Json] | None = None
    history: list[History] | None = None
    """Messages sent that the log holds already. The others are `sent`, in their order."""
    sent: Json = None
    """Messages sent that the log does not hold yet, each with its `kind` and `parts`, as pydantic-ai names them. A part
    with `as_in` has its content in another event of the run: the prompt, or the result of the same tool call."""
    rewritten: bool | None = None
    """True where messages of the request before are gone or have changed, as a history processor does it."""
    tools: Json = None
    """Definitions of the tools, given when they are new or have changed since the last request of this run."""
    tools_digest: str | None = None
    """Digest of `tools` and `output_schema`, so that a change shows where content does not."""
    output_mode: str | None = None
    """How the model is to give its output: `text`, `tool`, `native`, `prompted` …"""
    output_schema: Json = None
    """Given with `tools`."""


class LLMChunk(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("text",)

    request: int | None = None
    part: int | None = None
    """Index of the part within the response."""
    kind: ChunkKind
    part_kind: str | None = None
    """The provider library's name of the part, for kind `other`."""
    tool_name: str | None = None
    tool_call_id: str | None = None
    invented: bool | None = None
    """Whether the model made the name of the tool up: then it is content too."""
    text: Json = None
    """The pieces, joined."""
    lengths: list[int] | None = None
    """Length of each piece in characters (Unicode code points): `text` cut at these gives the pieces back."""
    offsets_us: list[int] | None = None
    """When each piece arrived, in whole microseconds after this event's `offset`: there are many of them, and numbers
    with a fraction take eight times as long to write."""


class LLMEnd(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("part_details", "error")

    request: int
    span_id: str | None = None
    """As in `llm_start`."""
    outcome: RequestOutcome
    duration_seconds: float
    start_unknown: bool | None = None
    """True where the request was sent before its stream was tapped: `duration_seconds` counts from there, and nobody
    knows the time to the first token."""
    model: str | None = None
    """The model asked, as in `llm_start`."""
    streaming: bool | None = None
    response_model: str | None = None
    response_id: str | None = None
    provider: str | None = None
    finish_reason: str | None = None
    raw_finish_reason: str | None = None
    """The provider's own word for it, where pydantic-ai's is another."""
    service_tier: str | None = None
    served_by: str | None = None
    """The provider behind a gateway."""
    server_address: str | None = None
    """Host that was asked, without whatever else its URL holds."""
    server_port: int | None = None
    provider_details: dict[str, Json] | None = None
    """What else the provider says of its answer: `batch`, `moderation`, `safety_ratings`, `requests` …"""
    part_details: Json = None
    """Of the answer's parts, what chunks do not tell: `part` (its index), `id`, `signature`, `citations` …"""
    usage: Usage | None = None
    usage_source: UsageSource
    cost_usd: float | None = None
    cost_source: CostSource | None = None
    price_version: str | None = None
    unpriced: bool | None = None
    """True where tokens were used and no price is known: the cost is missing, not zero."""
    failed_attempts: list[Attempt] | None = None
    chunks: int | None = None
    """Stream events that carried or opened a part."""
    time_to_first_chunk_seconds: float | None = None
    time_to_first_token_seconds: dict[ChunkKind, float] | None = None
    """By kind: from the request being sent to its first non-empty piece, without the consumer's own delay."""
    provider_wait_seconds: float | None = None
    """Time spent waiting for the provider after the stream was open."""
    consumer_hold_seconds: float | None = None
    """Time the consumer spent between taking one event and asking for the next."""
    gap_max_seconds: float | None = None
    """Longest wait for the provider after the first chunk."""
    stalls: int | None = None
    """Waits after the first chunk that were longer than the sidecar's `stall_seconds`."""
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
    """1 for the first try of this tool in the run; each retry of it adds one."""
    executed_by: Literal["provider"] | None = None
    """Absent where the application executes it. `provider`: web search, code execution and the like, on its servers."""
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
    """Absent where the tool was never executed."""
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
    """A call that an exception went through: its place, and no value."""

    file: str
    """Path; of an installed library, from its package on."""
    line: int
    function: str


class Raised(Payload, frozen=True, kw_only=True):
    """An exception behind another one."""

    content_fields: ClassVar[tuple[str, ...]] = ("error",)

    link: Literal["cause", "context", "member"]
    """`cause`: the one before was raised from it; `context`: raised while it was handled; `member`: in a group."""
    exception_type: str
    error: Json = None
    frames: list[Frame] | None = None


class Error(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("error",)

    error: Json = None
    exception_type: str | None = None
    """Qualified name; builtins bare."""
    where: Literal["model", "tool", "output", "run"]
    request: int | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    invented: bool | None = None
    """As in `llm_chunk`."""
    frames: list[Frame] | None = None
    """Where it was raised: calls, the innermost last, without values."""
    chain: list[Raised] | None = None
    """What it was raised from, or is a group of."""


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
    """Absent where nothing was priced. A lower bound where `events.is_lower_bound` says so."""
    usage_with_children: Usage | None = None
    """With all sub-agents; absent where there were none."""
    cost_usd_with_children: float | None = None
    unpriced_requests: int | None = None
    """Own requests that used tokens of which no price is known: `cost_usd` lacks them."""
    partial_requests: int | None = None
    """Own requests that were cut off before their whole usage was told: `usage` and `cost_usd` have what was."""
    unmeasured_requests: int | None = None
    """Own requests that were answered without anybody telling what they used: `usage` and `cost_usd` lack them."""
    sub_agents: int | None = None
    """Runs that this run's tools, outputs or stream started."""
    incomplete_sub_agents: int | None = None
    """Sub-agents that were still going on at the end of this run, or whose own figures are lower bounds."""
    exception_type: str | None = None


class Score(Payload, frozen=True, kw_only=True):
    """What a person or a program thinks of a run. It stands outside of the run: any process may write it, at any time,
    so its `seq` is a number of its own and no place among the run's events."""

    content_fields: ClassVar[tuple[str, ...]] = ("comment",)

    name: str
    """What is judged, such as `helpful`. The latest score of a name counts."""
    value: bool | float | None = None
    label: str | None = None
    """The judgement in a word, such as `pass`."""
    comment: Json = None
    trace_id: str | None = None
    span_id: str | None = None
    """OpenTelemetry ids of the run, where the writer knew them."""

    @property
    def number(self) -> float | None:
        """The value as a number: 1 for true, 0 for false."""
        return None if self.value is None else float(self.value)


class Custom(Payload, frozen=True, kw_only=True):
    content_fields: ClassVar[tuple[str, ...]] = ("payload",)

    name: str
    payload: Json = None
    tool_name: str | None = None
    tool_call_id: str | None = None
