"""One made-up run: a plausible story of requests, tools and sub-agents, told as events.

Made from the events' own types, with the ids, the books and the order that a sidecar would have written.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import TypeAlias

import msgspec

from sidestream.events import (
    AgentEnd,
    AgentStart,
    Attempt,
    ChunkKind,
    Custom,
    Error,
    FinalResult,
    LLMChunk,
    LLMEnd,
    LLMStart,
    Payload,
    Progress,
    RequestOutcome,
    Retry,
    RunOutcome,
    StreamEvent,
    ToolEnd,
    ToolOutcome,
    ToolStart,
    Usage,
    make_event,
)
from sidestream.events.ids import span_id_of, trace_id_of
from sidestream.recording.totals import Totals

Chunk: TypeAlias = tuple[str, list[int], list[int]]
"""Text, lengths and offsets of an `llm_chunk`."""

DELTAS = 8
"""Deltas of one `llm_chunk`: a tenth of a second of a model that writes 80 tokens a second."""
SPLIT = (0.86, 0.92, 0.96, 0.985)
"""Up to these parts of all runs: completed, error, cancelled, abandoned; the rest timed out."""


@dataclass(frozen=True)
class Model:
    name: str
    provider: str
    price: tuple[str, str] | None
    """US dollars for a million tokens in and out; None for a model whose price nobody knows."""
    pace: float
    """How slow it is, as a factor."""
    thinks: bool = False


@dataclass(frozen=True)
class Agent:
    name: str
    model: Model
    instructions: str
    tools: tuple[str, ...]
    desk: str | None = None
    """The agent that it asks as a tool."""


_MINI = Model("gpt-5-mini", "openai", ("0.25", "2.00"), 0.7)
_SONNET = Model("claude-sonnet-4-5", "anthropic", ("3.00", "15.00"), 1.0, thinks=True)
_FLASH = Model("gemini-2.5-flash", "google", ("0.30", "2.50"), 0.5)
_LOCAL = Model("house-llama-70b", "openai", None, 1.6)

AGENTS = {
    agent.name: agent
    for agent in (
        Agent(
            "support",
            _MINI,
            "You are the support of a small shop. Look orders up first.",
            ("look_up_order", "read_policy"),
            desk="billing",
        ),
        Agent("billing", _FLASH, "You know refunds and invoices.", ("read_invoice",)),
        Agent(
            "researcher",
            _SONNET,
            "Search first, then read, then answer with sources.",
            ("search_web", "read_page"),
            desk="librarian",
        ),
        Agent("librarian", _LOCAL, "Find the right document.", ("search_shelf",)),
        Agent("coder", _SONNET, "Change as little as you can.", ("read_file", "run_tests", "apply_patch")),
    )
}
ASKED = ("support", "support", "support", "researcher", "coder")
_QUESTIONS = (
    "Where is order {}, and can I send it back?",
    "What do we know about case {}?",
    "Why does test {} fail on Mondays?",
    "How is invoice {} refunded?",
)
_TEXT = (
    "The parcel left us on Monday and arrives on Thursday . Should it not fit , you have thirty days to send it back "
    "with our label . According to the second source , the figures differ by a fifth ; the older one counts returns "
    "twice . The test depends on the week day , for the fixture takes today's date . I have changed two lines and run "
    "everything again : all of it passes now ."
)
_RESULT = "shipped on Monday by courier, arrives on Thursday; terms of March apply. " * 4
_FAILURES = (
    ("pydantic_ai.exceptions.ModelHTTPError", "status_code: 529, overloaded"),
    ("httpx.ReadTimeout", "no answer within 30 s"),
    ("pydantic_ai.exceptions.UnexpectedModelBehavior", "Exceeded maximum output retries (1)"),
)


def chunks_of(rng: Random) -> list[Chunk]:
    """Text, lengths and offsets of many chunks, whose neighbours belong together."""
    text = [f"{word} " for word in _TEXT.split()]
    found = []
    for start in range(0, 512 * DELTAS, DELTAS):
        words = [text[(start + n) % len(text)] for n in range(DELTAS)]
        offsets = [n * 12_500 + rng.randrange(2_000) for n in range(DELTAS)]
        found.append(("".join(words), [len(word) for word in words], [offset - offsets[0] for offset in offsets]))
    return found


class MadeRun:
    """One made-up run, told as it goes into `log`."""

    def __init__(
        self,
        log: list[StreamEvent],
        rng: Random,
        chunks: list[Chunk],
        agent: Agent,
        at: float,
        parent: tuple[MadeRun, str] | None = None,
    ) -> None:
        self.log = log
        self.rng = rng
        self.chunks = chunks
        self.agent = agent
        self.begun = self.now = at
        self.parent = parent
        stamp, noise = int(at * 1e3), rng.getrandbits(74)
        digits = f"{stamp:012x}7{noise >> 62:03x}{8 | noise >> 60 & 3:x}{noise & (1 << 60) - 1:015x}"
        self.run_id = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        self.root: MadeRun = parent[0].root if parent else self
        self.seq = self.requests = self.calls = self.retries = self.unpriced = self.children = 0
        self.own, self.all = Totals(), Totals()

    def emit(self, data: Payload, at: float | None = None) -> None:
        self.log.append(
            make_event(
                data,
                timestamp=datetime.fromtimestamp(self.now if at is None else at, UTC),
                offset=round((self.now if at is None else at) - self.begun, 6),
                run_id=self.run_id,
                seq=self.seq,
                agent_name=self.agent.name,
            )
        )
        self.seq += 1

    def tell(self) -> None:
        """The whole run, its sub-agents included."""
        rng, agent, parent = self.rng, self.agent, self.parent
        number = rng.randrange(1_000, 10_000)
        host = rng.randrange(3)
        self.emit(
            AgentStart(
                parent_run_id=parent[0].run_id if parent else None,
                parent_tool_call_id=parent[1] if parent else None,
                parent_link="tool" if parent else None,
                root_run_id=self.root.run_id,
                conversation_id=f"conversation-{number}" if parent is None and number % 3 == 0 else None,
                trace_id=trace_id_of(self.root.run_id),
                span_id=span_id_of(self.run_id, 0),
                model=agent.model.name,
                mode="graph",
                prompt=rng.choice(_QUESTIONS).format(number),
                tags={"env": "production" if host else "staging", "tenant": f"tenant-{number % 20}"},
                pid=4_000 + host,
                host=f"demo-{host}",
            )
        )
        place = rng.random()
        steps = 1 + min(int(rng.expovariate(0.6)), 12)
        outcome: RunOutcome = "completed"
        for limit, other in zip(SPLIT, ("error", "cancelled", "abandoned", "timed_out"), strict=True):
            if place >= limit:
                outcome = other  # type: ignore[assignment]
        for step in range(1, steps + 1):
            last = step == steps
            self._request(step, cut_off=outcome if last and outcome != "completed" else None, answers=last)
            if not last:
                self._tool()
        self._end(outcome)

    def _request(self, number: int, *, cut_off: RunOutcome | None, answers: bool) -> None:
        rng, model = self.rng, self.agent.model
        self.requests += 1
        begun = self.now
        self.emit(
            LLMStart(
                request=number,
                model=model.name,
                provider=model.provider,
                streaming=True,
                messages=2 * number - 1,
                instructions=self.agent.instructions if number == 1 else None,
                settings={"temperature": 0.2, "max_tokens": 2_048} if model.thinks else None,
            )
        )
        first_after = model.pace * (0.25 + rng.expovariate(3.0))
        stalled = rng.random() < 0.01
        self.now += first_after
        count = 1 + min(int(rng.expovariate(0.12 if answers else 0.5)), 60)
        if cut_off:
            count = max(1, count // 2)
        kind: ChunkKind = "text" if answers else "tool_call"
        first: dict[ChunkKind, float] = {}
        if model.thinks:
            first["thinking"] = round(first_after, 6)
            self._stream("thinking", 0, number, 1 + count // 3)
        first[kind] = round(self.now - begun, 6)
        if answers:
            self._stream(kind, int(model.thinks), number, count)
        else:
            self._call(int(model.thinks), number)
        self.now += 3.0 if stalled else 0.01
        outcome: RequestOutcome = "ok"
        if cut_off:
            outcome = {"error": "error", "abandoned": "interrupted"}.get(cut_off, "cancelled")  # type: ignore[assignment]
        failure = self.failure = rng.choice(_FAILURES) if outcome == "error" else None
        told_usage = outcome == "ok" or rng.random() < 0.5
        usage = self._usage(number, count, partial=outcome != "ok") if told_usage else None
        cost = _cost(model, usage)
        if failure:
            self.emit(Error(error=failure[1], exception_type=failure[0], where="model", request=number))
        fell_back = answers and rng.random() < 0.01
        self.emit(
            LLMEnd(
                request=number,
                outcome=outcome,
                duration_seconds=round(self.now - begun, 6),
                model=model.name,
                streaming=True,
                response_model=model.name if outcome == "ok" else None,
                response_id=f"response-{rng.getrandbits(48):012x}" if outcome == "ok" else None,
                provider=model.provider,
                finish_reason=("stop" if answers else "tool_call") if outcome == "ok" else None,
                usage=usage,
                usage_source="none" if usage is None else "provider" if outcome == "ok" else "partial",
                cost_usd=None if cost is None else float(cost),
                cost_source=None if cost is None else "override",
                unpriced=True if usage is not None and cost is None else None,
                failed_attempts=[Attempt(model="gpt-5", outcome="error", error=_FAILURES[0][1])] if fell_back else None,
                chunks=count * DELTAS + 1,
                time_to_first_chunk_seconds=round(first_after, 6),
                time_to_first_token_seconds=first,
                provider_wait_seconds=round((self.now - begun) * 0.9, 6),
                consumer_hold_seconds=round((self.now - begun) * 0.05, 6),
                gap_max_seconds=3.0 if stalled else 0.06,
                stalls=int(stalled),
                exception_type=failure[0] if failure else None,
                error=failure[1] if failure else None,
            )
        )
        self.own.add(usage, cost)
        self.all.add(usage, cost)
        self.unpriced += usage is not None and cost is None
        total = self.own.usage()
        self.emit(
            Progress(
                iteration=number,
                total_tokens=total.total_tokens if total else None,
                total_cost_usd=self.own.cost_usd(),
            )
        )

    def _stream(self, kind: ChunkKind, part: int, request: int, count: int) -> None:
        start = self.rng.randrange(len(self.chunks))
        step = 0.1 * self.agent.model.pace
        for n in range(start, start + count):
            text, lengths, offsets = self.chunks[n % len(self.chunks)]
            self.emit(LLMChunk(request=request, part=part, kind=kind, text=text, lengths=lengths, offsets_us=offsets))
            self.now += step

    def _call(self, part: int, request: int) -> None:
        self.calls += 1
        self.tool = self.agent.desk if self.agent.desk and self.rng.random() < 0.15 else None
        self.tool_name = f"ask_{self.tool}" if self.tool else self.rng.choice(self.agent.tools)
        self.args = {"query": f"number {self.rng.randrange(10_000)}", "limit": 5}
        text = msgspec.json.encode(self.args).decode()
        self.emit(
            LLMChunk(
                request=request,
                part=part,
                kind="tool_call",
                tool_name=self.tool_name,
                tool_call_id=f"call-{self.calls}",
                text=text,
                lengths=[8, len(text) - 8],
                offsets_us=[0, 21_000],
            )
        )
        self.now += 0.05

    def _tool(self) -> None:
        """The tool that the answer asked for."""
        rng, begun, call = self.rng, self.now, f"call-{self.calls}"
        self.emit(ToolStart(tool_name=self.tool_name, tool_call_id=call, args=self.args, attempt=1))
        place = rng.random()
        outcome: ToolOutcome = "ok" if self.tool or place < 0.93 else "retry" if place < 0.975 else "failed"
        self.now += rng.expovariate(1.5)
        if self.tool:
            child = MadeRun(self.log, rng, self.chunks, AGENTS[self.tool], self.now, (self, call))
            child.tell()
            self.now = child.now + 0.002
        elif rng.random() < 0.05:
            self.emit(Custom(name="cache", payload={"hit": place < 0.5}, tool_name=self.tool_name, tool_call_id=call))
        failed = {"retry": "pydantic_ai.exceptions.ModelRetry", "failed": "pydantic_ai.exceptions.ToolFailedError"}.get(
            outcome
        )
        self.emit(
            ToolEnd(
                tool_name=self.tool_name,
                tool_call_id=call,
                outcome=outcome,
                duration_seconds=round(self.now - begun, 6),
                result=_RESULT if outcome == "ok" else None,
                exception_type=failed,
                error="not found" if failed else None,
            )
        )
        if outcome == "retry":
            self.retries += 1
            self.emit(
                Retry(
                    cause="model_retry",
                    attempt=1,
                    max_attempts=2,
                    tool_name=self.tool_name,
                    tool_call_id=call,
                    message="not found, try another number",
                )
            )
        self.now += 0.003

    def _usage(self, number: int, chunks: int, *, partial: bool) -> Usage:
        sent = 300 + 250 * number + self.rng.randrange(200)
        return Usage(
            input_tokens=sent,
            output_tokens=None if partial else chunks * DELTAS,
            cache_read_tokens=sent // 2 if number > 1 else None,
            reasoning_tokens=chunks * 2 if self.agent.model.thinks and not partial else None,
        )

    def _end(self, outcome: RunOutcome) -> None:
        if outcome == "completed":
            self.emit(FinalResult(output_type="str", output=self.chunks[self.requests][0]))
        usage = self.own.usage()
        self.emit(
            AgentEnd(
                outcome=outcome,
                success=outcome == "completed",
                duration_seconds=round(self.now - self.begun, 6),
                total_iterations=self.requests,
                total_tokens=usage.total_tokens if usage else None,
                tool_calls=self.calls,
                retries=self.retries,
                usage=usage,
                cost_usd=self.own.cost_usd(),
                usage_with_children=self.all.usage() if self.children else None,
                cost_usd_with_children=self.all.cost_usd() if self.children else None,
                unpriced_requests=self.unpriced or None,
                sub_agents=self.children or None,
                exception_type=self.failure[0] if self.failure else None,
            )
        )
        if self.parent:
            above = self.parent[0]
            above.children += 1
            above.all.add(self.all.usage(), self.all.usd)


def _cost(model: Model, usage: Usage | None) -> Decimal | None:
    if model.price is None or usage is None:
        return None
    into, out = map(Decimal, model.price)
    return (into * (usage.input_tokens or 0) + out * (usage.output_tokens or 0)) / 1_000_000
