"""Cost of observation in instructions, which other processes do not disturb: path and whole, against bare.

python -m tests.bench.instructions [--check] [--update] [--peers]

One run is counted against four of them by callgrind, so that what a process does once cancels. The path is what the
caller's thread executes, the whole is every thread, delivery to all four exporters included. `--check` compares the
path with what is committed in `instructions.json` and fails where it has grown by more than a tenth, naming the
functions that are called more often than before; `--update` writes the file. The whole is told and not checked: a
worker that polls by the clock does so more often in a process that callgrind makes fifty times slower. `--peers` counts
the other observers of `make bench` instead, each against bare in an environment of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from shutil import which
from types import FrameType
from typing import Any

os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")

from .agents import AGENT, consume_events, run_tools, text_agent, tool_agent
from .environments import NotInstalled, python_of
from .report import Table, progress
from .subjects import SUBJECTS, Subject

ROOT = Path(__file__).parents[2]
COMMITTED = Path(__file__).with_name("instructions.json")
RUNS = (1, 4)
UNITS = {"text, a delta": 200, "tool-heavy, a step": 20}
"""Number of deltas or steps of one run, by case."""
OBSERVERS = ("bare", "pass-through", "sidestream")
PEERS = ("bare", "sidestream-jsonl", "sidestream", "instrumentation", "logfire", "openinference", "langfuse", "mlflow")
TOLERANCE = 0.1
"""Share by which the instructions added to a pass-through run may grow before the check fails."""
SPREAD = 0.003
"""Growth that is always allowed: two counts of the same code differed by 0.002, since a loop that polls the clock had
more rounds in one of them."""

Counted = dict[str, dict[str, dict[str, float]]]
"""Instructions per unit on the `path` and in the `whole`, by case and observer."""


# --- in the process that valgrind runs ------------------------------------------------------------------------------


def _agents(case: str, subject: Subject) -> tuple[AGENT, Callable[[AGENT], Awaitable[None]]]:
    units = UNITS[case]
    if case.startswith("text"):
        return subject.attach(text_agent(units)), consume_events
    return subject.attach(tool_agent(units, "text")), run_tools


def _callgrind(*arguments: str) -> None:
    subprocess.run(["callgrind_control", *arguments, str(os.getpid())], check=True, capture_output=True)


def work(observer: str, case: str) -> None:
    """Count the instructions of each number of runs in `RUNS`, in separate dumps, after a warm-up."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        subject = SUBJECTS[observer](Path(folder))
        agent, use = _agents(case, subject)
        subject.switch(True)

        async def runs(number: int) -> None:
            for _ in range(number):
                await use(agent)
                await asyncio.to_thread(subject.settle)  # its waiting is no part of the path

        async def measure() -> None:
            await runs(2)
            gc.collect()
            gc.disable()
            _callgrind("-i", "on")
            for number in RUNS:
                _callgrind("-z")
                await runs(number)
                _callgrind("-d", f"runs {number}")
            _callgrind("-i", "off")

        asyncio.run(measure())
        subject.close()


def calls(case: str) -> dict[str, float]:
    """Calls per unit of each function of Sidestream on the caller's thread. Exact, and measured without valgrind."""
    counted: Counter[str] = Counter()

    def on_call(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and "sidestream" in (module := frame.f_globals.get("__name__", "")):
            counted[f"{module}.{frame.f_code.co_qualname}"] += 1

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        subject = SUBJECTS["sidestream"](Path(folder))
        agent, use = _agents(case, subject)
        asyncio.run(use(agent))  # type: ignore[arg-type]
        sys.setprofile(on_call)
        asyncio.run(use(agent))  # type: ignore[arg-type]
        sys.setprofile(None)
        subject.close()
    # Calls once per run or per 0.1 s do not belong to the cost of a unit.
    return {name: round(count / UNITS[case], 1) for name, count in sorted(counted.items()) if count >= UNITS[case] / 2}


# --- in the process that reports -------------------------------------------------------------------------------------


def count(observer: str, case: str) -> dict[str, float]:
    """Instructions per unit of the caller's thread (`path`) and of all threads (`whole`)."""
    progress(f"{observer}: {case}")
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes"]
        command += [f"--callgrind-out-file={folder}/out", python_of(observer), "-m", "tests.bench.instructions"]
        done = subprocess.run(
            [*command, "--work", observer, case],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"callgrind did not count {observer}, {case}: {done.stderr[-2_000:]}")
        counted: dict[int, dict[int, int]] = {}
        for file in Path(folder).iterdir():
            text = file.read_text()
            trigger = re.search(r"^desc: Trigger: dump runs (\d+)$", text, re.M)
            thread, total = re.search(r"^thread: (\d+)$", text, re.M), re.search(r"^totals: (\d+)$", text, re.M)
            if trigger and thread and total:
                counted.setdefault(int(trigger[1]), {})[int(thread[1])] = int(total[1])
    few, many = (counted[number] for number in RUNS)
    units = (RUNS[1] - RUNS[0]) * UNITS[case]
    path, whole = (many[1] - few[1]) / units, (sum(many.values()) - sum(few.values())) / units
    return {"path": round(path), "whole": round(whole)}


def ratios(counted: Counted) -> dict[str, dict[str, float]]:
    """Ratios by case: pass-through to bare, path to pass-through, path to bare, whole to bare."""
    found = {}
    for case, by_observer in counted.items():
        bare, through, ours = (by_observer[name] for name in OBSERVERS)
        found[case] = {
            "pass-through / bare": round(through["path"] / bare["path"], 4),
            "path / pass-through": round(ours["path"] / through["path"], 4),
            "path / bare": round(ours["path"] / bare["path"], 4),
            "whole / bare": round(ours["whole"] / bare["whole"], 4),
        }
    return found


def grown(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """One line for each ratio that grew by more than the tolerance, with the functions called more often."""
    lines = []
    for case, values in now["ratios"].items():
        for name, value in values.items():
            old = before["ratios"].get(case, {}).get(name)
            if name != "path / pass-through" or old is None or value - 1 <= (old - 1) * (1 + TOLERANCE) + SPREAD:
                continue
            lines.append(f"{case}: {name} is {value}, was {old}")
            were = before["calls"].get(case, {})
            more = {each: now["calls"][case][each] - were.get(each, 0) for each in now["calls"][case]}
            lines += [f"    {each}: {by:+g} calls" for each, by in more.items() if by > 0]
    return lines


def peers() -> Table:
    """Table of the instructions that each observer adds to a bare run."""
    table = Table("Instructions, one run against four", digits={"path / bare": 3, "whole / bare": 3})
    for case in UNITS:
        bare: dict[str, float] = {}
        for name in PEERS:
            try:
                found = count(name, case)
            except (NotInstalled, SystemExit) as reason:
                table.note(f"{name} skipped: {reason}")
                continue
            bare = bare or found
            shares = {f"{part} / bare": value / bare[part] for part, value in found.items()}
            table.add(case=case, observer=name, path=int(found["path"]), **shares)
            progress(table.render())
    return table


def main() -> int:
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:4])
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.instructions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="fail where it costs more than what is committed")
    parser.add_argument("--update", action="store_true", help="write what is committed")
    parser.add_argument("--peers", action="store_true", help="count the other observers, against bare")
    options = parser.parse_args()
    if which("valgrind") is None:
        print("valgrind is not installed (on Debian: apt install valgrind)", file=sys.stderr)
        return int(os.environ.get("CI") == "true")
    if options.peers:
        print(peers().render())
        return 0
    counted: Counted = {case: {name: count(name, case) for name in OBSERVERS} for case in UNITS}
    now: dict[str, Any] = {
        "python": platform.python_version(),
        "pydantic-ai": version("pydantic-ai-slim"),
        "instructions": counted,
        "ratios": ratios(counted),
        "calls": {case: calls(case) for case in UNITS},
    }
    table = Table("Instructions, one run against four", digits=dict.fromkeys(next(iter(now["ratios"].values())), 4))
    for case, values in now["ratios"].items():
        bare, through, ours = (counted[case][name] for name in OBSERVERS)
        adds = {"path adds": int(ours["path"] - through["path"]), "whole adds": int(ours["whole"] - bare["whole"])}
        table.add(case=case, bare=int(bare["path"]), **values, **adds)
    table.note("path adds: to the pass-through; whole adds: to bare; instructions a unit")
    print(table.render())
    if options.update:
        COMMITTED.write_text(json.dumps(now, indent=2) + "\n", "utf-8")
    if options.check:
        lines = grown(now, json.loads(COMMITTED.read_text("utf-8")))
        print("\n".join(lines), file=sys.stderr)
        return int(bool(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
