"""Waterfall of a run: one row per step, with a bar from its start to its end in percent of the run's duration.

With percentages the SVG rows stretch to the window while text keeps its size, and zooming changes two attributes only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from sidestream.events import Usage
from sidestream.log import RunLog, Step

from .wording import count, money, seconds, short_class, words

MAX_ROWS = 200
"""Most rows of a page, unless all are requested."""
LEAST_WIDTH = 0.15
"""Minimum width of a bar in percent, so that very short steps stay visible."""
POINTS = ("retry", "error", "custom", "final_result")


@dataclass(frozen=True, slots=True)
class Row:
    """Row of one step, or of the run itself. `left`, `width` and `first_token` are percentages of the time shown."""

    id: str
    depth: int
    kind: str
    name: str
    note: str
    outcome: str | None
    start: float
    duration: float | None
    usage: Usage | None
    cost_usd: float | None
    unpriced: bool
    usage_is_lower_bound: bool
    cost_is_lower_bound: bool
    left: float
    width: float
    first_token: float | None
    chunks: str
    """SVG path, 1,000 wide and 10 high, with a stroke at each time at which deltas arrived."""
    open: bool
    """Whether the step is in progress, or its end is missing from the log."""
    details: list[tuple[str, str]]
    run_id: str

    @property
    def is_point(self) -> bool:
        return self.kind in POINTS

    @property
    def title(self) -> str:
        return "\n".join([f"{self.name} {self.note}".strip(), *(f"{name}: {value}" for name, value in self.details)])


@dataclass(frozen=True, slots=True)
class Waterfall:
    rows: list[Row]
    seconds: float
    """Time shown, in seconds from the start of the run."""
    ticks: list[tuple[float, str]]
    """Axis labels with their positions in percent."""
    hidden: int
    """Number of steps left out."""
    shown: frozenset[str]
    """Ids of the steps shown."""


def waterfall(log: RunLog, *, scale: float | None = None, rows: int | None = MAX_ROWS) -> Waterfall:
    """Waterfall of `log`, sub-agents included.

    Args:
        log: Run to draw.
        scale: Seconds from edge to edge; None is the duration of the run.
        rows: Most rows; None for all.
    """
    total = scale or duration(log)
    steps = list(identified(log))
    shown = steps if rows is None else list(islice(steps, max(rows - 1, 0)))
    return Waterfall(
        rows=[_root(log, total), *(_row(each, total) for each in shown)],
        seconds=total,
        ticks=ticks(total),
        hidden=len(steps) - len(shown),
        shown=frozenset(each.id for each in shown),
    )


@dataclass(frozen=True, slots=True)
class Identified:
    """Step with its HTML id and its depth."""

    id: str
    depth: int
    run: RunLog
    step: Step


def identified(log: RunLog) -> Iterator[Identified]:
    """Steps of `log` and its sub-agents in order, with ids that stay stable while the log grows."""
    for depth, run, step in log.walk():
        yield Identified(step_id(run, step), depth + 1, run, step)


def step_id(run: RunLog, step: Step) -> str:
    if step.run is not None:
        return f"run-{step.run.summary.run_id}"
    return f"{step.kind}-{run.summary.run_id[-12:]}-{step.seq}"


def duration(log: RunLog) -> float:
    """Seconds from the start of a run to the latest known moment; never 0."""
    ends = [run.start + step.start + (step.duration_seconds or 0.0) for _, run, step in log.walk()]
    return max(log.summary.duration_seconds or 0.0, *ends, 1e-6) if ends else log.summary.duration_seconds or 1e-6


def ticks(total: float) -> list[tuple[float, str]]:
    """Four to nine round times along the axis, as (percent, label)."""
    rough = total / 6
    size = 1e-6
    steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400]
    nice = [digit * 10.0**power for power in range(-6, 0) for digit in (1, 2, 5)] + [float(step) for step in steps]
    size = next((step for step in nice if step >= rough), 86_400.0 * max(1, round(rough / 86_400)))
    return [(100 * number * size / total, tick_label(number * size, size)) for number in range(int(total / size) + 1)]


def tick_label(at: float, size: float) -> str:
    if at == 0:
        return "0"
    if size < 1 and at < 1:
        return f"{at * 1e3:.6f}".rstrip("0").rstrip(".") + "ms"
    if at < 60:
        return f"{at:.3f}".rstrip("0").rstrip(".") + "s"
    return seconds(at)


def _root(log: RunLog, total: float) -> Row:
    summary = log.summary
    return Row(
        id=f"run-{summary.run_id}",
        depth=0,
        kind="run",
        name=summary.agent_name or "agent",
        note="",
        outcome=summary.outcome,
        start=0.0,
        duration=summary.duration_seconds,
        usage=summary.usage_with_children or summary.usage,
        cost_usd=summary.whole_cost_usd,
        unpriced=summary.unpriced_requests > 0,
        usage_is_lower_bound=summary.is_lower_bound("usage", with_children=True),
        cost_is_lower_bound=summary.is_lower_bound("cost", with_children=True),
        left=0.0,
        width=_percent(summary.duration_seconds or total, total),
        first_token=None,
        chunks="",
        open=summary.outcome == "running",
        details=[("outcome", words(summary.outcome)), ("took", seconds(summary.duration_seconds))],
        run_id=summary.run_id,
    )


def _row(found: Identified, total: float) -> Row:
    run, step = found.run, found.step
    start = run.start + step.start
    took = step.duration_seconds
    is_open = took is None and step.kind not in POINTS and step.outcome is None
    end = total if is_open and run.summary.outcome == "running" else start + (took or 0.0)
    left = _percent(start, total)
    width = max(LEAST_WIDTH, _percent(end - start, total))
    first = step.time_to_first_token_seconds
    return Row(
        id=found.id,
        depth=found.depth,
        kind=step.kind,
        name=_name(step),
        note=_note(step),
        outcome=step.outcome or ("error" if step.kind == "error" else "retry" if step.kind == "retry" else None),
        start=start,
        duration=took,
        usage=step.usage,
        cost_usd=step.cost_usd,
        unpriced=step.unpriced,
        usage_is_lower_bound=step.usage_is_lower_bound,
        cost_is_lower_bound=step.cost_is_lower_bound,
        left=min(left, 100 - LEAST_WIDTH),
        width=min(width, 100 - min(left, 100 - LEAST_WIDTH)),
        first_token=None if first is None else _percent(start + first, total),
        chunks=_strokes(run, step, start, max(end - start, 1e-9), width),
        open=is_open,
        details=_details(step, start),
        run_id=step.run.summary.run_id if step.run is not None else run.summary.run_id,
    )


def _name(step: Step) -> str:
    match step.kind:
        case "final_result":
            return "final result"
        case "error":
            return short_class(step.name)
        case "retry":
            return words(step.name)
        case _:
            return step.name


def _note(step: Step) -> str:
    match step.kind:
        case "request":
            return f"#{step.request}" if step.request is not None else ""
        case "tool":
            return f"try {step.attempt}" if (step.attempt or 1) > 1 else ""
        case "error":
            return f"in {step.where}" if step.where else ""
        case _:
            return ""


def _details(step: Step, start: float) -> list[tuple[str, str]]:
    usage = step.usage
    known = [
        ("began at", seconds(start) if start else "0"),
        ("took", seconds(step.duration_seconds) if step.duration_seconds is not None else None),
        ("outcome", words(step.outcome) if step.outcome else None),
        ("first token after", seconds(first) if (first := step.time_to_first_token_seconds) is not None else None),
        ("tokens", _tokens(step, usage) if usage else None),
        ("from cache", count(usage.cache_read_tokens) if usage and usage.cache_read_tokens else None),
        ("cost", _paid(step)),
        ("provider", step.provider),
        ("finish reason", step.finish_reason),
        ("exception", step.exception_type),
        ("pieces", count(pieces) if (pieces := sum(len(part.deltas) for part in step.parts)) else None),
    ]
    return [(name, value) for name, value in known if value is not None]


def _paid(step: Step) -> str | None:
    if step.cost_usd is None:
        return "unknown" if step.unpriced else None
    return money(step.cost_usd, step.cost_is_lower_bound)


def _tokens(step: Step, usage: Usage) -> str:
    at_least = step.usage_is_lower_bound
    return f"{count(usage.input_tokens, at_least)} in, {count(usage.output_tokens, at_least)} out"


def _strokes(run: RunLog, step: Step, start: float, length: float, width: float) -> str:
    """SVG path with a stroke at each time at which deltas arrived, reduced to distinguishable positions."""
    places = max(40, min(500, int(width * 16)))
    taken = {
        min(places, max(0, int(places * (run.start + delta.at - start) / length)))
        for part in step.parts
        for delta in part.deltas
    }
    return "".join(f"M{round(1000 * place / places)} 0v10" for place in sorted(taken))


def _percent(part: float, whole: float) -> float:
    return min(100.0, max(0.0, 100 * part / whole))
