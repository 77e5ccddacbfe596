"""Small charts above the run list: outcomes, cost and duration over time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sidestream.events import verdict_of
from sidestream.log.runs.overview import RunsOverTime, TimeBin
from sidestream.terminal.numbers import counted

from .wording import money, seconds, tone

BINS = 48
HEIGHT = 100.0
"""Height of a chart in SVG units; a bin is 1 unit wide."""
NO_RUNS = "no runs"
TONES = ("good", "live", "calm", "warn", "bad")
"""Tones of a stacked bar, from bottom to top."""


@dataclass(slots=True)
class Piece:
    """Rectangle of a stacked bar; `y` is measured from the top of the chart."""

    tone: str
    y: float
    height: float


@dataclass(slots=True)
class Bin:
    """Time interval with its stacked bar."""

    since: datetime
    until: datetime
    title: str
    pieces: list[Piece] = field(default_factory=list)


@dataclass(slots=True)
class Chart:
    name: str
    total: str
    """Headline figure."""
    note: str
    top: str
    """Label of the highest bar's value."""
    bins: list[Bin]

    @property
    def edges(self) -> tuple[str, str]:
        """Labels of the start and the end; shorter ranges get more exact labels."""
        since, until = self.bins[0].since.astimezone(), self.bins[-1].until.astimezone()
        days = (until - since).total_seconds() / 86_400
        form = "%d %b %Y" if days > 300 else "%d %b" if days > 4 else "%d %b %H:%M" if days > 0.5 else "%H:%M:%S"
        return since.strftime(form), until.strftime(form)

    @property
    def description(self) -> str:
        """Text for screen readers."""
        return f"{self.name}: {self.total}. {self.note}".strip()


def charts(runs: RunsOverTime) -> list[Chart]:
    """Charts of outcomes, cost and duration; empty if no run has a start time."""
    if not runs.bins:
        return []
    return [_outcomes(runs.bins), _cost(runs.bins), _duration(runs)]


def _outcomes(bins: Sequence[TimeBin]) -> Chart:
    top = max(sum(each.outcomes.values()) for each in bins)
    chart = []
    for each in bins:
        count = Counter[str]()
        for outcome, many in each.outcomes.items():
            count[tone(outcome)] += many
        ordered = sorted(each.outcomes.items(), key=lambda pair: (-pair[1], pair[0]))
        title = ", ".join(f"{many} {outcome.replace('_', ' ')}" for outcome, many in ordered) or NO_RUNS
        chart.append(_bin(each, title, [(tone, count[tone] / top) for tone in TONES if count[tone]]))
    every = Counter[str]()
    for each in bins:
        every.update(each.outcomes)
    total = sum(every.values())
    ended = total - every["running"]
    failed = sum(number for outcome, number in every.items() if verdict_of(outcome) == "fault")
    note = f"{100 * failed / ended:.1f} % failed" if ended else "none has ended"
    return Chart("Runs", f"{total:,}", note, counted(top, "run"), chart)


def _cost(bins: Sequence[TimeBin]) -> Chart:
    dearest = max(bins, key=lambda each: each.cost_usd or 0.0)
    top = dearest.cost_usd or 0.0
    chart = [
        _bin(
            each,
            money(each.cost_usd, each.cost_bounds > 0) if each.outcomes else NO_RUNS,
            [("accent", each.cost_usd / top)] if each.cost_usd else [],
        )
        for each in bins
    ]
    known = [each.cost_usd for each in bins if each.cost_usd is not None]
    bounds = sum(each.cost_bounds for each in bins)
    note = f"at least: {counted(bounds, 'run')} not known in full" if bounds else ""
    peak = money(top, dearest.cost_bounds > 0) if top else ""
    return Chart("Cost", money(math.fsum(known) if known else None, bounds > 0), note, peak, chart)


def _duration(runs: RunsOverTime) -> Chart:
    top = max((each.duration.p95 for each in runs.bins if each.duration), default=0.0)
    chart = []
    for each in runs.bins:
        title, pieces = NO_RUNS, []
        if (its := each.duration) is not None:
            title = f"median {seconds(its.p50)}, p95 {seconds(its.p95)}"
            if top:
                pieces = [("accent", its.p50 / top), ("accent-faint", (its.p95 - its.p50) / top)]
        chart.append(_bin(each, title, pieces))
    median, most = (runs.duration.p50, runs.duration.p95) if runs.duration else (None, None)
    return Chart("Duration, median", seconds(median), f"p95 {seconds(most)}", seconds(top) if top else "", chart)


def _bin(span: TimeBin, title: str, shares: list[tuple[str, float]]) -> Bin:
    """Bin with stacked rectangles; each share is a fraction of the height."""
    made = Bin(span.since, span.until, title)
    level = HEIGHT
    for colour, share in shares:
        height = max(share * HEIGHT, 1.5)
        level = max(0.0, level - height)
        made.pieces.append(Piece(colour, level, height))
    return made
