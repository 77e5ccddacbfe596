"""HTML of runs and statistics for notebooks, as `_repr_html_` returns it. All text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from sidestream.terminal.numbers import humanize_count, humanize_seconds, humanize_usd
from sidestream.terminal.text import one_line, sanitize

if TYPE_CHECKING:
    from .runs.summary import RunSummary
    from .runs.totals import Statistics
    from .runs.tree import RunLog

ROWS = 50
"""Maximum number of rows in a table."""


def runs_html(runs: Sequence[RunSummary]) -> str:
    """HTML table of `runs`, the last fifty of them."""
    rows = [
        (
            "" if run.started is None else f"{run.started:%Y-%m-%d %H:%M:%S}Z",
            run.agent_name or "agent",
            run.run_id[-8:],
            run.outcome,
            humanize_seconds(run.duration_seconds),
            _bound(humanize_count(run.whole_tokens), run.is_lower_bound("usage", with_children=True)),
            _bound(humanize_usd(run.whole_cost_usd), run.is_lower_bound("cost", with_children=True)),
            run.model or "",
        )
        for run in runs[-ROWS:]
    ]
    more = f"<p>The last {ROWS} of {len(runs):,} runs.</p>" if len(runs) > ROWS else ""
    return _table(("started", "agent", "run", "outcome", "took", "tokens", "cost", "model"), rows) + more


def statistics_html(found: Statistics) -> str:
    """HTML table of the statistics by agent, with the total in the last row."""
    rows = [
        (
            group.name or "(none)",
            f"{group.count:,}",
            ", ".join(f"{number:,} {name}" for name, number in group.outcomes.items()),
            _bound(humanize_count(group.total_tokens), group.is_lower_bound("usage")),
            _bound(humanize_usd(group.cost_usd), group.is_lower_bound("cost")),
            humanize_seconds(group.duration.p50 if group.duration else None),
            humanize_seconds(group.duration.p95 if group.duration else None),
        )
        for group in (*found.by_agent, found.total)
    ]
    rows[-1] = ("all", *rows[-1][1:])
    return _table(("agent", "runs", "ended", "tokens", "cost", "p50", "p95"), rows)


def run_html(run: RunLog) -> str:
    """HTML of a run: its summary line, the prompt, and its steps with shortened output."""
    rows = [
        (
            f"{step.start:.3f}s",
            "\u2003" * depth + f"{step.kind} {step.name}",
            step.outcome or "",
            humanize_seconds(step.duration_seconds),
            _bound(humanize_usd(step.cost_usd), step.cost_is_lower_bound),
            _first_text(step.error, step.output, " ".join(part.text or "" for part in step.parts)),
        )
        for depth, _, step in list(run.walk())[:ROWS]
    ]
    prompt = f"<p>{escape(sanitize(one_line(run.prompt, 300)))}</p>" if run.prompt is not None else ""
    return runs_html([run.summary]) + prompt + _table(("at", "step", "outcome", "took", "cost", "content"), rows)


def _first_text(*values: object) -> str:
    return next((one_line(value, 160) for value in values if value), "")


def _bound(text: str, at_least: bool) -> str:
    return f"≥{text}" if text and at_least else text


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(sanitize(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
