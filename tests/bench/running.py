"""Rows 1, 2 and 4: an observed agent compared with the same agent bare, each subject in a separate process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .environments import NotInstalled, python_of
from .report import Spread, Table, progress, ratio, verdict

ROOT = Path(__file__).parents[2]
TIMEOUT = 1_200
"""Time limit in seconds for one subject."""

BESIDE = "sidestream-collect"

Step = tuple[str, dict[str, Any]]


def measure(table: Table, subject: str, *steps: Step) -> list[dict[str, Any]]:
    """Measurements of `subject` by `worker`, one per step; empty if it cannot run, with the reason in `table`."""
    progress(f"{subject}: " + "; ".join(f"{name} {options}" for name, options in steps))
    try:
        command = [python_of(subject), "-m", "tests.bench.worker", subject, json.dumps(steps)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
    except (NotInstalled, subprocess.TimeoutExpired) as reason:
        table.note(f"{subject} skipped: {reason}")
        return []
    for line in reversed(done.stdout.splitlines()):
        if line.startswith('{"describe"'):
            found = json.loads(line)
            table.note(f"{subject}: {found['describe']}")
            measured: list[dict[str, Any]] = found["measured"]
            return measured
    table.note(f"{subject} skipped: {(done.stderr.strip().splitlines() or ['no result'])[-1][:200]}")
    return []


def text_stream(subjects: Sequence[str], *, deltas: int, rounds: int, processes: int) -> Table:
    """Table of row 1: a text stream."""
    table = Table(
        f"1. Text stream, {deltas:,} deltas, {processes} × {rounds} rounds of A-B-B-A; median (quartiles)",
        "caller ≤ 1.02 of bare and ≤ 1 µs a delta, process ≤ 1.05 (row 3, a collector beside: 1.03); a run ≤ 100 µs "
        "on the caller, ≤ 400 µs in all",
        digits={"caller": 3, "process": 3, "a run µs": 0, "in all µs": 0},
    )
    modes = {"run_stream_events": "events", "stream_text": "text"}
    long: list[Step] = [("stream", {"mode": mode, "deltas": deltas, "rounds": rounds}) for mode in modes.values()]
    short: list[Step] = [("stream", {"mode": mode, "deltas": 1, "rounds": 4 * rounds}) for mode in modes.values()]
    for subject in subjects:
        # The memory layout of a process changes times by a microsecond, so several processes are measured.
        each = [found for _ in range(processes) if (found := measure(table, subject, *long, *short))]
        for place, mode in enumerate(modes if each else ()):
            bare, observed = (_pooled([found[place][side] for found in each]) for side in ("bare", "observed"))
            alone, watched = (_pooled([found[place + 2][side] for found in each]) for side in ("bare", "observed"))
            added = Spread.of_pairs(bare["thread"], observed["thread"], lambda a, b: (b - a) / deltas * 1e6)
            process = Spread.of_pairs(bare["process"], observed["process"], ratio)
            caller = Spread.of_pairs(bare["thread"], observed["thread"], ratio)
            table.add(
                subject=subject,
                mode=mode,
                bare_µs=Spread.of([seconds / deltas * 1e6 for seconds in bare["thread"]]),
                added_µs=added,
                a_run_µs=Spread.of_pairs(alone["thread"], watched["thread"], lambda a, b: (b - a) * 1e6),
                in_all_µs=Spread.of_pairs(alone["process"], watched["process"], lambda a, b: (b - a) * 1e6),
                caller=caller,
                process=process,
                goal=verdict(
                    added.median <= 1,
                    caller.median <= 1.02,
                    process.median <= (1.03 if subject == BESIDE else 1.05),
                ),
            )
    table.note("added: for each delta, what a run costs at all included; a run: added to a run of one delta")
    table.note("caller: CPU of the caller's thread, ratio to bare; process: of all threads, delivery included")
    return table


def _pooled(samples: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    return {name: [value for each in samples for value in each[name]] for name in samples[0]}


def tool_steps(subjects: Sequence[str], *, rounds: int, cases: Sequence[tuple[int, str]]) -> Table:
    """Table of row 2: a tool-heavy run."""
    table = Table(
        f"2. Tool-heavy run, results of 5.5 KB, {rounds} rounds of A-B-B-A; median (quartiles)",
        "JSONL alone, also with a collector beside (row 3): caller ≤ 1.03, process ≤ 1.05; four exporters: 1.05 and "
        "1.10; ≤ +5 MB, bytes linear in steps",
        digits={"added MB": 1, "KB a step": 1},
    )
    for steps, result in cases:
        case: dict[str, Any] = {"steps": steps, "result": result}
        memory: Step = ("memory", case)
        base = measure(table, "bare", memory)
        for subject in subjects:
            measured = measure(table, subject, memory, ("tools", {**case, "rounds": rounds}))
            if not base or not measured:
                continue
            used, found = measured
            bare, observed, exported = found["bare"], found["observed"], found.get("bytes")
            caller, process, wall = (
                Spread.of_pairs(bare[name], observed[name], ratio) for name in ("thread", "process", "wall")
            )
            goals = (1.03, 1.05) if subject in ("sidestream-jsonl", BESIDE) else (1.05, 1.10)
            added = (used["bytes"] - base[0]["bytes"]) / 1e6
            table.add(
                subject=subject,
                **case,
                caller=caller,
                process=process,
                wall=wall,
                added_MB=added,
                KB_a_step=None if exported is None else exported / steps / 1e3,
                goal=verdict(caller.median <= goals[0], process.median <= goals[1], added <= 5),
            )
    table.note("added MB: peak of Python's objects above that of a bare run; KB a step: exported, linear where equal")
    return table


def gaps(subjects: Sequence[str], *, deltas: int, rounds: int, paced: int, crowds: Sequence[str]) -> Table:
    """Table of row 4: gaps between the events at the caller."""
    table = Table(
        f"4. Gap between events at the caller, {rounds} rounds of A-B-B-A; median (quartiles)",
        "p99 ≤ 1.1 and p99.9 ≤ 1.1 of bare; the caller's loop at most 0.1 ms later at p99",
        digits={"later ms": 3},
    )
    cases: dict[str, tuple[Sequence[str], dict[str, Any]]] = {
        "one run, full speed": (subjects, {"runs": 1, "deltas": deltas, "pause": None}),
        "100 runs, each 10 a second": (crowds, {"runs": 100, "deltas": paced, "pause": 0.1}),
    }
    for case, (those, options) in cases.items():
        for subject in those:
            for found in measure(table, subject, ("gaps", {**options, "rounds": rounds})):
                bare, observed = found["bare"], found["observed"]
                p99, p999 = (Spread.of_pairs(bare[name], observed[name], ratio) for name in ("gap_p99", "gap_p999"))
                later = Spread.of_pairs(bare["late_p99"], observed["late_p99"], lambda a, b: (b - a) * 1e3)
                table.add(
                    subject=subject,
                    case=case,
                    bare_p99_ms=Spread.of([seconds * 1e3 for seconds in bare["gap_p99"]]),
                    p99=p99,
                    **{"p99.9": p999},
                    longest=Spread.of_pairs(bare["gap_max"], observed["gap_max"], ratio),
                    later_ms=later,
                    goal=verdict(p99.median <= 1.1, p999.median <= 1.1, later.median <= 0.1),
                )
    table.note("later: how much later the caller's loop wakes from a sleep of 1 ms, p99")
    return table
