"""Cost of observation, as ratios to bare pydantic-ai and to its other observers. Asserts nothing.

python -m tests.bench [--full] [--rows 1,2,events,4,5,6,7,8,9,10,11] [--subjects sidestream,instrumentation,…] [--json]

Without --full it takes two to three minutes and measures Sidestream and pydantic-ai's own instrumentation. With it, it
takes far longer, and every other subject in a virtual environment of its own (made once, under bench/ in this one).
Row `size` runs only if named: a log of 100,000 events, with --full of ten million (an hour, and 6 GB of disk).
Row 3, the collector beside the program, is the subject sidestream-collect of rows 1 and 2.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version

from .report import Table

QUICK = ("pass-through", "sidestream-jsonl", "sidestream-collect", "sidestream", "instrumentation")
HANGING = ("sidestream-hanging",)
"""Sidestream with an exporter whose calls never return: the worst case."""
FULL = (*QUICK, "logfire", "openinference", "langfuse", "mlflow")


def rows(subjects: list[str], full: bool) -> dict[str, Callable[[], Table]]:
    from .crowd import crowd
    from .exporter_cost import exporter_cost
    from .jsonl_write import jsonl_write
    from .log_read import log_read
    from .log_replay import log_replay
    from .log_size import log_size
    from .running import gaps, text_stream, tool_steps
    from .scrape import scrape
    from .start_and_stop import imports, shutdown

    if full:
        cases = [(100, "text"), (160, "text"), (160, "records")]
        return {
            "1": lambda: text_stream(subjects, deltas=2_000, rounds=8, processes=3),
            "2": lambda: tool_steps(subjects, rounds=5, cases=cases),
            "events": lambda: exporter_cost(events=20_000, rounds=9),
            "4": lambda: gaps(
                [*subjects, *HANGING], deltas=5_000, rounds=10, paced=30, crowds=("sidestream", *HANGING)
            ),
            "5": lambda: crowd(runs=1_000, seconds=10.0),
            "6": lambda: jsonl_write(events=100_000, rounds=9),
            "7": lambda: log_read(events=1_000_000, rounds=5),
            "8": lambda: log_replay(events=1_000_000),
            "size": lambda: log_size(events=10_000_000),
            "9": lambda: scrape(agents=50, models=30, tools=20, events=100_000, rounds=5),
            "10": lambda: imports(rounds=9),
            "11": lambda: shutdown(rounds=5, timeout=2.0),
        }
    return {
        "1": lambda: text_stream(subjects, deltas=1_000, rounds=4, processes=1),
        "2": lambda: tool_steps(subjects, rounds=1, cases=[(100, "text")]),
        "events": lambda: exporter_cost(events=5_000, rounds=3),
        "4": lambda: gaps(HANGING, deltas=2_000, rounds=2, paced=5, crowds=HANGING),
        "5": lambda: crowd(runs=200, seconds=2.0),
        "6": lambda: jsonl_write(events=20_000, rounds=5),
        "7": lambda: log_read(events=200_000, rounds=2),
        "8": lambda: log_replay(events=50_000),
        "size": lambda: log_size(events=100_000),
        "9": lambda: scrape(agents=50, models=2, tools=20, events=50_000, rounds=1),
        "10": lambda: imports(rounds=2),
        "11": lambda: shutdown(rounds=1, timeout=0.5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="more rounds, more cases, all subjects")
    parser.add_argument("--rows", default="1,2,events,4,5,6,7,8,9,10,11", help="which rows, separated by commas")
    parser.add_argument("--subjects", default="", help=f"of {','.join(FULL)}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    subjects = options.subjects.split(",") if options.subjects else list(FULL if options.full else QUICK)
    if unknown := [name for name in subjects if name not in FULL]:
        parser.error(f"unknown subjects: {', '.join(unknown)}; choose from {', '.join(FULL)}")
    known = rows(subjects, options.full)
    wanted = options.rows.split(",")
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"unknown rows: {', '.join(unknown)}; choose from {', '.join(known)}")
    machine = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "pydantic-ai": version("pydantic-ai-slim"),
    }
    tables = []
    for name in wanted:
        table = known[name]()
        tables.append(table)
        if not options.json:
            print(table.render(), flush=True)
    if options.json:
        json.dump({"machine": machine, "tables": [table.plain() for table in tables]}, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
