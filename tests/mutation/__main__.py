"""Changes one place of the source at a time, runs the tests of its room, and prints the changes that no test noticed.

    python -m tests.mutation [--rooms recording,pipeline,…] [--mutants 150] [--seed 16] [--python .venv/bin/python]

Works on a copy of the checkout. Which places are changed, and how, is Cosmic Ray's doing; the seed chooses among them.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import WorkItem

ROOT = Path(__file__).parents[2]
ROOMS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "recording": (["telemetry/sidestream/recording"], ["tests/recording"]),
    "pipeline": (["telemetry/sidestream/pipeline"], ["tests/pipeline"]),
    "pricing": (["telemetry/sidestream/recording/pricing.py"], ["tests/recording/test_pricing.py"]),
    "files": (
        ["exporters/sidestream_exporters/jsonl", "telemetry/sidestream/logfiles", "telemetry/sidestream/log/reader.py"],
        ["tests/exporters/jsonl", "tests/log/test_log_repair.py", "tests/log/test_any_life_of_a_log.py"],
    ),
}
"""By name: the sources that are changed, and the tests that have to notice."""
UNNOTICEABLE = "core/ReplaceBinaryOperator_BitOr"
"""Mostly `str | None` in an annotation, which is not evaluated."""


def copy_to(folder: Path) -> None:
    """The files that are committed or staged, as they are now."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name in filter(None, names.split("\0")):
                archive.add(ROOT / name, name)
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            archive.extractall(folder, filter="data")


def changes(sources: Sequence[str], session: Path) -> list[WorkItem]:
    """Every change that Cosmic Ray knows of `sources`, but for those of annotations."""
    files = [file for source in map(Path, sources) for file in ([source] if source.is_file() else source.rglob("*.py"))]
    with use_db(str(session)) as database:
        init(sorted(files), database, {})
        found = list(database.pending_work_items)
    kept = [item for item in found if not item.mutations[0].operator_name.startswith(UNNOTICEABLE)]
    return sorted(kept, key=lambda item: (str(item.mutations[0].module_path), item.mutations[0].start_pos, str(item)))


def try_room(name: str, mutants: int, seed: int, python: str, timeout: float) -> list[str]:
    """Prints a sign for each change; the diffs of those that survived."""
    sources, tests = ROOMS[name]
    command = [python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *tests]
    bare = subprocess.run(command, capture_output=True, text=True)
    if bare.returncode:
        raise SystemExit(f"{name}: its tests fail before anything is changed\n{bare.stdout}{bare.stderr}")
    with tempfile.TemporaryDirectory() as there:
        all_changes = changes(sources, Path(there) / "session.sqlite")
    chosen = random.Random(seed).sample(all_changes, min(mutants, len(all_changes)))
    print(f"{name}: {len(chosen)} of {len(all_changes)} changes", end=" ", flush=True)
    survived = []
    for item in chosen:
        result = mutate_and_test(item.mutations, shlex.join(command), timeout)
        print("." if result.is_killed else "S", end="", flush=True)
        if not result.is_killed:
            survived.append(result.diff or result.output or str(item))
    print(f" {len(chosen) - len(survived)} noticed", flush=True)
    return survived


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", default=",".join(ROOMS), help=f"of {', '.join(ROOMS)}")
    parser.add_argument("--mutants", type=int, default=150, help="changes in all, shared evenly by the rooms")
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--python", default=sys.executable, help="one with what the tests need")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for the tests of one change")
    asked = parser.parse_args()
    rooms = asked.rooms.split(",")
    if unknown := set(rooms) - set(ROOMS):
        parser.error(f"no room {', '.join(sorted(unknown))}; there are {', '.join(ROOMS)}")
    python = str(Path(asked.python).absolute())
    survived: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        copy_to(Path(folder))
        os.chdir(folder)
        os.environ["PYTHONPATH"] = os.pathsep.join([f"{folder}/telemetry", f"{folder}/exporters"])
        for room in rooms:
            survived += try_room(room, asked.mutants // len(rooms), asked.seed, python, asked.timeout)
    for diff in survived:
        print(f"\n{diff}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
