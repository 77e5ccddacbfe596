"""Made-up run: a plausible sequence of requests, tools and sub-agents, with an artificial clock.

The run is recorded by the recorder and assembler of real runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import TypeAlias

import msgspec

from sidestream.events import Attempt, ChunkKind, RequestOutcome, RunOutcome, StreamEvent, ToolOutcome, Usage
from sidestream.recording.assembler import RunAssembler
from sidestream.recording.context import Link
from sidestream.recording.direct import DirectAssembly
from sidestream.recording.failure import Failure
from sidestream.recording.pricing import Cost
from sidestream.recording.process import Process
from sidestream.recording.request_recorder import Append, RequestRecorder
from sidestream.recording.response import ResponseFacts
from sidestream.recording.run_recorder import RunRecorder

Chunk: TypeAlias = tuple[list[str], list[int]]
"""Texts of deltas, and the nanoseconds of each since the first."""

DELTAS = 8
"""Deltas of one `llm_chunk`: a tenth of a second of a model that generates 80 tokens a second."""
SPLIT = (0.86, 0.92, 0.96, 0.985)
"""Cumulative shares of the outcomes completed, error, cancelled and abandoned; the rest is timed_out."""


@dataclass(frozen=True)
class Model:
    name: str
    provider: str
    price: tuple[str, str] | None
    """US dollars per million input and output tokens; None for a model without a known price."""
    pace: float
    """Factor on all durations of the model."""
    thinks: bool = False


@dataclass(frozen=True)
class Agent:
    name: str
    model: Model
    instructions: str
    tools: tuple[str, ...]
    desk: str | None = None
    """Name of the agent that is called as a tool; None for no sub-agent."""


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
    """Deltas of 512 chunks, whose texts continue from chunk to chunk."""
    text = [f"{word} " for word in _TEXT.split()]
    found = []
    for start in range(0, 512 * DELTAS, DELTAS):
        words = [text[(start + n) % len(text)] for n in range(DELTAS)]
        offsets = [n * 12_500 + rng.randrange(2_000) for n in range(DELTAS)]
        found.append((words, [(offset - offsets[0]) * 1_000 for offset in offsets]))
    return found


class MadeRun:
    """Made-up run, recorded step by step.

    Args:
        log: List to which the events of the run and its sub-agents are appended.
        rng: Random numbers that determine the run.
        chunks: Deltas to stream, from `chunks_of`.
        agent: Agent of the run.
        at: Start of the run in Unix seconds.
        parent: Calling run, tool call id and span number of a sub-agent; None for a root run.
    """

    def __init__(
        self,
        log: list[StreamEvent],
        rng: Random,
        chunks: list[Chunk],
        agent: Agent,
        at: float,
        parent: tuple[MadeRun, str, int] | None = None,
    ) -> None:
        self.log = log
        self.rng = rng
        self.chunks = chunks
        self.agent = agent
        self.now = at
        self.failure: Failure | None = None
        self.requests = self.calls = 0
        stamp, noise = int(at * 1e3), rng.getrandbits(74)
        digits = f"{stamp:012x}7{noise >> 62:03x}{8 | noise >> 60 & 3:x}{noise & (1 << 60) - 1:015x}"
        self.number = rng.randrange(1_000, 10_000)
        host = rng.randrange(3)
        self.append: Append
        if parent is None:
            self.append = DirectAssembly(RunAssembler(), log.append).append
        else:
            self.append = parent[0].append
        self.run: RunRecorder = RunRecorder(
            self.append,
            run_id=f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}",
            agent_name=agent.name,
            parent=Link(parent[0].run, parent[1], span=parent[2]) if parent else None,
            tags={"env": "production" if host else "staging", "tenant": f"tenant-{self.number % 20}"},
            clock=self.clock,
            wall=self.clock,
            process=Process(4_000 + host, f"demo-{host}"),
        )

    def clock(self) -> int:
        """Current made-up time in Unix nanoseconds."""
        return round(self.now * 1e6) * 1_000

    def record(self) -> None:
        """Record the whole run, sub-agents included."""
        rng, agent, number = self.rng, self.agent, self.number
        self.run.start(
            prompt=rng.choice(_QUESTIONS).format(number),
            model=agent.model.name,
            conversation_id=f"conversation-{number}" if self.run.parent is None and number % 3 == 0 else None,
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
        if outcome == "completed":
            self.run.final_result("".join(self.chunks[self.requests][0]), "str")
        self.run.end(outcome, self.failure)

    def _request(self, number: int, *, cut_off: RunOutcome | None, answers: bool) -> None:
        rng, model = self.rng, self.agent.model
        self.requests += 1
        request = self.run.request(
            model=model.name,
            provider=model.provider,
            streaming=True,
            messages=2 * number - 1,
            instructions=self.agent.instructions if number == 1 else None,
            settings={"temperature": 0.2, "max_tokens": 2_048} if model.thinks else None,
        )
        request.begin_stream()
        stalled = rng.random() < 0.01
        self._wait(request, model.pace * (0.25 + rng.expovariate(3.0)), chunk=True)
        count = 1 + min(int(rng.expovariate(0.12 if answers else 0.5)), 60)
        if cut_off:
            count = max(1, count // 2)
        if model.thinks:
            self._stream(request, "thinking", 0, 1 + count // 3)
        if answers:
            self._stream(request, "text", int(model.thinks), count)
        else:
            self._call(request, int(model.thinks))
        self._wait(request, 3.0 if stalled else 0.01)
        request.close_parts()
        outcome: RequestOutcome = "ok"
        if cut_off:
            outcome = {"error": "error", "abandoned": "interrupted"}.get(cut_off, "cancelled")  # type: ignore[assignment]
        failure = self.failure = Failure(*rng.choice(_FAILURES)) if outcome == "error" else None
        if failure:
            self.run.error(failure, "model", request=number)
        request.end(outcome, self._facts(number, count, outcome, answers), failure=failure)

    def _wait(self, request: RequestRecorder, seconds: float, *, chunk: bool = False) -> None:
        """Let the provider take `seconds` for its next event."""
        asked = self.clock()
        self.now += seconds
        request.pulled(asked, self.clock(), chunk=chunk)

    def _facts(self, number: int, count: int, outcome: RequestOutcome, answers: bool) -> ResponseFacts:
        rng, model = self.rng, self.agent.model
        complete = outcome == "ok"
        usage = self._usage(number, count, partial=not complete) if complete or rng.random() < 0.5 else None
        usd = _cost(model, usage)
        fell_back = answers and rng.random() < 0.01
        return ResponseFacts(
            usage=usage,
            usage_source="none" if usage is None else "provider" if complete else "partial",
            cost=None if usd is None else Cost(usd, "override"),
            unpriced=usage is not None and usd is None,
            attempts=[Attempt(model="gpt-5", outcome="error", error=_FAILURES[0][1])] if fell_back else [],
            response_model=model.name if complete else None,
            response_id=f"response-{rng.getrandbits(48):012x}" if complete else None,
            provider=model.provider,
            finish_reason=("stop" if answers else "tool_call") if complete else None,
        )

    def _stream(self, request: RequestRecorder, kind: ChunkKind, part: int, count: int) -> None:
        deltas = request.open_part(part, kind, self.clock())
        start = self.rng.randrange(len(self.chunks))
        pace, asked = self.agent.model.pace, self.clock()
        for n in range(start, start + count):
            texts, offsets = self.chunks[n % len(self.chunks)]
            first = self.clock()
            times = [first + int(offset * pace) for offset in offsets]
            for noted in zip(texts, [asked, *times], times, strict=False):
                deltas.noted += noted
            asked = times[-1]
            self.now += 0.1 * pace
        request.close_part(part, self.clock())

    def _call(self, request: RequestRecorder, part: int) -> None:
        self.calls += 1
        self.tool = self.agent.desk if self.agent.desk and self.rng.random() < 0.15 else None
        self.tool_name = f"ask_{self.tool}" if self.tool else self.rng.choice(self.agent.tools)
        self.args = {"query": f"number {self.rng.randrange(10_000)}", "limit": 5}
        text = msgspec.json.encode(self.args).decode()
        begun = self.clock()
        deltas = request.open_part(
            part, "tool_call", begun, tool_name=self.tool_name, tool_call_id=f"call-{self.calls}", named=True
        )
        self.now += 0.05
        deltas.noted += (text[:8], begun, begun, text[8:], begun, begun + 21_000_000)
        request.close_part(part, self.clock())

    def _tool(self) -> None:
        """Record the call of the tool that the last response requested."""
        rng, call = self.rng, f"call-{self.calls}"
        span = self.run.tool_start(self.tool_name, call, self.args, 1)
        place = rng.random()
        outcome: ToolOutcome = "ok" if self.tool or place < 0.93 else "retry" if place < 0.975 else "failed"
        self.now += rng.expovariate(1.5)
        if self.tool:
            child = MadeRun(self.log, rng, self.chunks, AGENTS[self.tool], self.now, (self, call, span))
            child.record()
            self.now = child.now + 0.002
        elif rng.random() < 0.05:
            self.run.custom("cache", {"hit": place < 0.5}, tool_name=self.tool_name, tool_call_id=call)
        failed = {"retry": "pydantic_ai.exceptions.ModelRetry", "failed": "pydantic_ai.exceptions.ToolFailedError"}.get(
            outcome
        )
        failure = Failure(failed, "not found") if failed else None
        self.run.tool_end(span, outcome, result=_RESULT if outcome == "ok" else None, failure=failure)
        if outcome == "retry":
            self.run.retry(
                cause="model_retry",
                attempt=1,
                max_attempts=2,
                tool_name=self.tool_name,
                tool_call_id=call,
                message="not found, try another number",
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


def _cost(model: Model, usage: Usage | None) -> Decimal | None:
    if model.price is None or usage is None:
        return None
    into, out = map(Decimal, model.price)
    return (into * (usage.input_tokens or 0) + out * (usage.output_tokens or 0)) / 1_000_000
