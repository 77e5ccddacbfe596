"""Small charts over the runs of a list: how they ended, what they cost, how long they took, over time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sidestream.events import verdict_of
from sidestream.log import RunSummary
from sidestream.log.runs.quantiles import quantiles
from sidestream.terminal.numbers import counted

from .wording import money, seconds, tone

BINS = 48
HEIGHT = 100.0
"""Height of a chart in its own units; a bin is 1 wide."""
TONES = ("good", "live", "calm", "warn", "bad")
"""Tones of a stack, from its bottom to its top."""


@dataclass(slots=True)
class Piece:
    """One rectangle of a bar, measured from the top of the chart."""

    tone: str
    y: float
    height: float


@dataclass(slots=True)
class Bin:
    """A span of time, and the rectangles over it."""

    since: datetime
    until: datetime
    title: str
    pieces: list[Piece] = field(default_factory=list)


@dataclass(slots=True)
class Chart:
    name: str
    total: str
    """The figure that matters most."""
    note: str
    top: str
    """What the highest bar stands for."""
    bins: list[Bin]

    @property
    def edges(self) -> tuple[str, str]:
        """Labels of the beginning and the end, as exact as the span of time needs."""
        since, until = self.bins[0].since.astimezone(), self.bins[-1].until.astimezone()
        days = (until - since).total_seconds() / 86_400
        form = "%d %b %Y" if days > 300 else "%d %b" if days > 4 else "%d %b %H:%M" if days > 0.5 else "%H:%M:%S"
        return since.strftime(form), until.strftime(form)

    @property
    def description(self) -> str:
        """Text for screen readers."""
        return f"{self.name}: {self.total}. {self.note}".strip()


def charts(runs: Sequence[RunSummary], cost: Callable[[RunSummary], float | None]) -> list[Chart]:
    """How `runs` ended, what they cost (by `cost`) and how long they took; nothing where no time is known."""
    timed = [run for run in runs if run.started is not None]
    if not timed:
        return []
    times = [run.started.timestamp() for run in timed if run.started is not None]
    begin, end = min(times), max(times)
    size = max((end - begin) / BINS, 0.001)
    bins: list[list[RunSummary]] = [[] for _ in range(BINS)]
    for run, at in zip(timed, times, strict=True):
        bins[min(BINS - 1, int((at - begin) / size))].append(run)
    edges = [datetime.fromtimestamp(begin + number * size, UTC) for number in range(BINS)]
    edges.append(datetime.fromtimestamp(end + 0.001, UTC))
    return [_outcomes(bins, edges), _cost(bins, cost, edges), _duration(bins, edges)]


def _outcomes(bins: list[list[RunSummary]], edges: list[datetime]) -> Chart:
    counts = [Counter(tone(run.outcome) for run in runs) for runs in bins]
    top = max(sum(count.values()) for count in counts)
    chart = []
    for number, (runs, count) in enumerate(zip(bins, counts, strict=True)):
        told = Counter(run.outcome.replace("_", " ") for run in runs)
        title = ", ".join(f"{many} {outcome}" for outcome, many in told.most_common()) or "no runs"
        chart.append(_bin(edges, number, title, [(tone, count[tone] / top) for tone in TONES if count[tone]]))
    every = Counter(run.outcome for runs in bins for run in runs)
    total = sum(every.values())
    ended = total - every["running"]
    failed = sum(number for outcome, number in every.items() if verdict_of(outcome) == "fault")
    note = f"{100 * failed / ended:.1f} % failed" if ended else "none has ended"
    return Chart("Runs", f"{total:,}", note, counted(top, "run"), chart)


def _cost(bins: list[list[RunSummary]], cost: Callable[[RunSummary], float | None], edges: list[datetime]) -> Chart:
    costs = [[usd for run in runs if (usd := cost(run)) is not None] for runs in bins]
    sums = [math.fsum(each) for each in costs]
    bounds = [sum(run.is_lower_bound("cost", with_children=True) for run in runs) for runs in bins]
    top = max(sums)
    chart = [
        _bin(
            edges, number, money(usd, bounds[number] > 0) if runs else "no runs", [("accent", usd / top)] if usd else []
        )
        for number, (runs, usd) in enumerate(zip(bins, sums, strict=True))
    ]
    total = math.fsum(sums) if any(costs) else None
    note = f"at least: {counted(sum(bounds), 'run')} not known in full" if any(bounds) else ""
    peak = money(top, bounds[sums.index(top)] > 0) if top else ""
    return Chart("Cost", money(total, any(bounds)), note, peak, chart)


def _duration(bins: list[list[RunSummary]], edges: list[datetime]) -> Chart:
    taken = [[run.duration_seconds for run in runs if run.outcome != "running"] for runs in bins]
    spread = [quantiles(values) for values in taken]
    every = quantiles([value for values in taken for value in values])
    top = max((each.p95 for each in spread if each), default=0.0)
    chart = []
    for number, each in enumerate(spread):
        title, pieces = "no runs", []
        if each is not None:
            title = f"median {seconds(each.p50)}, p95 {seconds(each.p95)}"
            if top:
                pieces = [("accent", each.p50 / top), ("accent-faint", (each.p95 - each.p50) / top)]
        chart.append(_bin(edges, number, title, pieces))
    median, most = (every.p50, every.p95) if every else (None, None)
    return Chart("Duration, median", seconds(median), f"p95 {seconds(most)}", seconds(top) if top else "", chart)


def _bin(edges: list[datetime], number: int, title: str, shares: list[tuple[str, float]]) -> Bin:
    """Bin with stacked rectangles of these shares of the height."""
    made = Bin(edges[number], edges[number + 1], title)
    level = HEIGHT
    for colour, share in shares:
        height = max(share * HEIGHT, 1.5)
        level = max(0.0, level - height)
        made.pieces.append(Piece(colour, level, height))
    return made
