"""Summary at the end of the demo: runs, statistics of the exporters, the log, and commands to try next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from sidestream.events import AgentEnd, AgentStart, LLMEnd, StreamEvent
from sidestream.stats import ExporterStats
from sidestream.terminal.layout import ASCII, Layout
from sidestream.terminal.numbers import counted, humanize_seconds, humanize_usd
from sidestream.terminal.table import table_lines
from sidestream.terminal.text import one_line, sanitize, truncate

PLAIN = Layout(glyphs=ASCII)
"""Layout for any output: nothing is truncated, and the summary's own text is ASCII."""
QUESTION = 40
"""Width of the question column."""


class RunSummary(msgspec.Struct, kw_only=True):
    """Row of one run. None for unknown values."""

    run_id: str
    agent_name: str | None
    parent_run_id: str | None
    question: str | None
    outcome: str = "lost"
    tokens: int | None = None
    cost_usd: float | None = None
    time_to_first_token_seconds: float | None = None
    duration_seconds: float | None = None
    retries: int | None = None


class Summary(msgspec.Struct, kw_only=True):
    """Summary of all scenes."""

    runs: list[RunSummary]
    exporters: Mapping[str, ExporterStats]
    recording_errors: int
    log: str | None
    skipped: Sequence[str]
    interrupted: bool

    def as_json(self) -> str:
        return msgspec.json.format(msgspec.json.encode(self)).decode()

    def as_text(self, *, verbose: bool = False) -> str:
        """Summary as text, ASCII but for names and content. With `verbose`, without the hint at `--verbose`."""
        paragraphs = ["Interrupted. What there was:" if self.interrupted else "What the sidecar saw:"]
        if self.runs:
            rows = [_run_row(run, depth) for run, depth in _tree(self.runs)]
            paragraphs.append("\n".join(table_lines(PLAIN, rows, right=("tokens", "cost", "1st token", "took"))))
        exporters = [_exporter_row(*item) for item in self.exporters.items()]
        paragraphs.append("\n".join(table_lines(PLAIN, exporters, right=("seen", "exported", "dropped", "pending"))))
        if self.recording_errors:
            paragraphs.append(
                f"The sidecar failed to record something {self.recording_errors} times: please report it."
            )
        if self.skipped:
            paragraphs.append(
                "\n".join(f"Skipped, for only a scripted model does this: {title}" for title in self.skipped)
            )
        paragraphs.append("\n".join(self._next_steps(verbose)))
        return "\n\n".join(paragraphs)

    def _next_steps(self, verbose: bool) -> Iterable[str]:
        # The bare name is not on the PATH of a virtual environment that is not activated.
        command = "sidestream" if shutil.which("sidestream") else os.path.relpath(sys.argv[0])
        if self.log is not None:
            query = (
                'select(.event_type=="agent_end") | [.agent_name, .data.outcome, .data.total_tokens, .data.cost_usd]'
            )
            yield f"The log, one event a line: {self.log}"
            yield f"  what failed, how:  {command} show --failed --log {shlex.quote(self.log)}"
            yield f"  in the browser:    {command} serve {shlex.quote(self.log)} --open"
            yield f"  ask it:            jq -c {shlex.quote(query)} {shlex.quote(self.log)}"
        if not verbose:
            yield f"  see it all:        {command} demo --verbose"
        yield "  in your own code:  from sidestream import Sidecar"
        yield '                     Sidecar("console", "jsonl:runs/").observe(agent)'


def runs_of(events: Iterable[StreamEvent]) -> list[RunSummary]:
    """Runs in `events`, ordered by their start."""
    runs: dict[str, RunSummary] = {}
    for event in events:
        data, run = event.data, runs.get(event.run_id)
        if isinstance(data, AgentStart):
            runs[event.run_id] = RunSummary(
                run_id=event.run_id,
                agent_name=event.agent_name,
                parent_run_id=data.parent_run_id,
                question=None if data.prompt is None else str(data.prompt),
            )
        elif run is not None and isinstance(data, LLMEnd) and data.time_to_first_token_seconds:
            if run.time_to_first_token_seconds is None:
                run.time_to_first_token_seconds = min(data.time_to_first_token_seconds.values())
        elif run is not None and isinstance(data, AgentEnd):
            run.outcome = data.outcome
            run.tokens = data.total_tokens
            run.cost_usd = data.cost_usd
            run.duration_seconds = data.duration_seconds
            run.retries = data.retries
    return list(runs.values())


def find_log(out: str) -> str | None:
    """Newest log file of this process under `out`; None without one."""
    path = Path(out)
    if path.suffix == ".jsonl":
        return str(path) if path.is_file() else None
    mine = sorted([*path.glob(f"*Z-{os.getpid()}.jsonl"), *path.glob(f"*Z-{os.getpid()}_*.jsonl")])
    return str(mine[-1]) if mine else None


def _tree(runs: Sequence[RunSummary]) -> Iterable[tuple[RunSummary, int]]:
    """Runs with their depth, in order of display: sub-agents below the run that called them."""
    known = {run.run_id for run in runs}

    def below(parent: str | None, depth: int) -> Iterable[tuple[RunSummary, int]]:
        for run in runs:
            if (run.parent_run_id if run.parent_run_id in known else None) == parent:
                yield run, depth
                yield from below(run.run_id, depth + 1)

    return below(None, 0)


def _run_row(run: RunSummary, depth: int) -> dict[str, str]:
    retried = f", {counted(run.retries, 'retry')}" if run.retries else ""
    return {
        "run": sanitize(f"{'  ' * depth}{run.agent_name or 'agent'} {run.run_id[-4:]}"),
        "outcome": run.outcome + retried,
        "tokens": "-" if run.tokens is None else f"{run.tokens:,}",
        "cost": humanize_usd(run.cost_usd) or "unknown",
        "1st token": humanize_seconds(run.time_to_first_token_seconds) or "-",
        "took": humanize_seconds(run.duration_seconds) or "-",
        "question": truncate(one_line(run.question or ""), QUESTION, "..."),
    }


def _exporter_row(name: str, stats: ExporterStats) -> dict[str, str]:
    numbers = {"seen": stats.seen, "exported": stats.exported, "dropped": sum(stats.dropped.values())}
    return {"exporter": name, **{head: str(number) for head, number in numbers.items()}, "pending": str(stats.pending)}
