"""Tail sampling: sampled traces pass at once, unsampled ones if a run in them failed, was slow or expensive.

The head sampler decides at the start of a trace. The spans of an unsampled trace are held until its root run ends; then
all of them are sent, or all discarded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sidestream.events import AgentEnd

from .runs import Run, Span

MAX_SPANS = 10_000
"""Spans held at once. Beyond this limit, or `MAX_CONTENT`, the oldest trace is discarded."""
MAX_CONTENT = 64_000_000
"""Characters in the spans held at once."""
MAX_TRACES = 10_000
"""Traces held at once; also the decisions remembered for runs that end after their root run."""

ATTRIBUTE = "sidestream.sampling"


@dataclass(slots=True)
class _Held:
    spans: list[Span] = field(default_factory=list)
    content: int = 0
    reason: str | None = None


class TailSampler:
    """Tail sampler of finished spans.

    Args:
        keep_failed: Whether unsampled traces are sent if a run in them did not complete.
        keep_slower: Seconds; unsampled traces are sent if a run in them took longer. None for no limit.
        keep_costlier: US dollars, sub-agents included; unsampled traces are sent if a run cost more. None for no limit.
    """

    def __init__(self, keep_failed: bool, keep_slower: float | None, keep_costlier: float | None) -> None:
        self._rules = (keep_failed, keep_slower, keep_costlier)
        self._any = keep_failed or keep_slower is not None or keep_costlier is not None
        self._held: dict[str, _Held] = {}
        self._spans = self._content = 0
        self._decided: dict[str, str | None] = {}
        self.sampled_out = 0
        """Spans discarded because their trace is not sampled."""

    def take(self, run: Run, span: Span | None, end: AgentEnd | None) -> list[Span]:
        """Spans to send now: `span` of a sampled run, and the spans held of a trace that `end` completes."""
        if run.sampled:
            return _marked([span], "head") if span else []
        if not self._any:
            self.sampled_out += span is not None
            return []
        root = run.root_run_id
        if root in self._decided and root not in self._held:
            reason = self._decided[root] or (self._reason(end) if end else None)
            self.sampled_out += span is not None and reason is None
            return _marked([span], reason) if span and reason else []
        held = self._held.setdefault(root, _Held())
        if span is not None:
            held.spans.append(span)
            content = span.text_length()
            held.content += content
            self._content += content
            self._spans += 1
        if end is not None:
            held.reason = held.reason or self._reason(end)
            if run.run_id == root:
                return self._release(root)
        # Traces without spans count too: a run that never ends would leave an entry forever.
        while self._spans > MAX_SPANS or self._content > MAX_CONTENT or len(self._held) > MAX_TRACES:
            self._release(next(iter(self._held)), send=False)
        return []

    @property
    def held(self) -> int:
        """Spans held until the end of their trace."""
        return self._spans

    def _release(self, root: str, send: bool = True) -> list[Span]:
        held = self._held.pop(root)
        self._spans -= len(held.spans)
        self._content -= held.content
        self._decided.pop(root, None)
        self._decided[root] = reason = held.reason if send else None
        if len(self._decided) > MAX_TRACES:
            del self._decided[next(iter(self._decided))]
        if reason is None:
            self.sampled_out += len(held.spans)
            return []
        return _marked(held.spans, reason)

    def _reason(self, end: AgentEnd) -> str | None:
        failed, slower, costlier = self._rules
        cost = end.cost_usd if end.cost_usd_with_children is None else end.cost_usd_with_children
        if failed and end.outcome != "completed":
            return f"tail:{end.outcome}"
        if slower is not None and end.duration_seconds > slower:
            return "tail:slow"
        if costlier is not None and cost is not None and cost > costlier:
            return "tail:expensive"
        return None


def _marked(spans: list[Span], why: str) -> list[Span]:
    for span in spans:
        span.attributes[ATTRIBUTE] = why
    return spans
