"""Which spans leave: those of sampled traces at once, of the others those that turn out to matter.

Whether a trace is sampled was decided where it began. The spans of one that is not are held until its outermost run
ends, for only then is it known whether it failed, was slow or expensive; then all are sent, or all let go.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sidestream.events import AgentEnd

from .runs import Run, Span

MAX_SPANS = 10_000
MAX_CONTENT = 64_000_000
"""Spans that may be held, and characters in them. Beyond, the trace that began first is let go."""
MAX_TRACES = 10_000
"""Traces that are held, and those whose decision is remembered for runs that end after the outermost."""

ATTRIBUTE = "sidestream.sampling"


@dataclass(slots=True)
class _Held:
    spans: list[Span] = field(default_factory=list)
    content: int = 0
    reason: str | None = None


class TailSampler:
    """Lets spans pass, or holds them.

    Args:
        keep_failed: Keep traces in which a run did not complete.
        keep_slower: Keep traces in which a run took longer than so many seconds; None keeps none for that.
        keep_costlier: Keep traces in which a run cost more than so many US dollars, sub-agents included.
    """

    def __init__(self, keep_failed: bool, keep_slower: float | None, keep_costlier: float | None) -> None:
        self._rules = (keep_failed, keep_slower, keep_costlier)
        self._any = keep_failed or keep_slower is not None or keep_costlier is not None
        self._held: dict[str, _Held] = {}
        self._spans = self._content = 0
        self._decided: dict[str, str | None] = {}
        self.sampled_out = 0
        """Spans that were not sent, since their trace is not sampled."""

    def take(self, run: Run, span: Span | None, end: AgentEnd | None) -> list[Span]:
        """The spans that leave now: `span` of `run`, and what was held if `end` ends its trace."""
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
        # Traces without spans count too: a run that never ends may leave one for ever.
        while self._spans > MAX_SPANS or self._content > MAX_CONTENT or len(self._held) > MAX_TRACES:
            self._release(next(iter(self._held)), send=False)
        return []

    @property
    def held(self) -> int:
        """Spans that wait for the end of their trace."""
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
