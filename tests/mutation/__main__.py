"""Mutation run: changes one place of the source at a time and prints the changes that no test notices.

    python -m tests.mutation [--rooms recording,pipeline,…] [--mutants 160] [--seed 16] [--python .venv/bin/python]

Works on a copy of the checkout, with an interpreter whose child processes import the copy as well. Cosmic Ray makes the
changes; the seed chooses among them. Coverage names the tests that execute a changed line: only those judge the change.
A line that no test of the room executes in its own process is judged by all tests of the room.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

import coverage
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import WorkItem

from tests.support.checkout import copy_checkout

ROOMS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "recording": (["telemetry/sidestream/recording"], ["tests/recording", "tests/sources/tap/test_tags.py"]),
    "pipeline": (["telemetry/sidestream/pipeline"], ["tests/pipeline"]),
    "pricing": (["telemetry/sidestream/recording/pricing.py"], ["tests/recording/test_pricing.py"]),
    "files": (
        [
            *("exporters/sidestream_exporters/jsonl", "telemetry/sidestream/logfiles"),
            *(f"telemetry/sidestream/log/{name}.py" for name in ("reader", "files", "writers", "sequence")),
        ],
        [
            *("tests/exporters/jsonl", "tests/log/test_any_life_of_a_log.py", "tests/log/test_sequence.py"),
            *(f"tests/log/test_log_{name}.py" for name in ("files", "limits", "repair", "writers")),
            *(f"tests/log/test_{name}.py" for name in ("hostile_files", "older_logs")),
        ],
    ),
}
"""Mutated sources and their tests, by name."""
UNNOTICEABLE = "core/ReplaceBinaryOperator_BitOr"
"""Excluded operator, which mostly changes `str | None` in annotations that are never evaluated."""


def changes(sources: Sequence[str], session: Path) -> list[WorkItem]:
    """All changes of `sources` that Cosmic Ray offers, except changes of annotations."""
    files = [file for source in map(Path, sources) for file in ([source] if source.is_file() else source.rglob("*.py"))]
    with use_db(str(session)) as database:
        init(sorted(files), database, {})
        found = list(database.pending_work_items)
    kept = [item for item in found if not item.mutations[0].operator_name.startswith(UNNOTICEABLE)]
    return sorted(kept, key=lambda item: (str(item.mutations[0].module_path), item.mutations[0].start_pos, str(item)))


def interpreter(folder: Path, python: str) -> str:
    """Interpreter with the packages of `python` that imports the copy in `folder` instead of the checkout."""
    environment = folder / ".venv"
    venv.EnvBuilder(symlinks=os.name != "nt").create(environment)
    bin_name = "Scripts" if os.name == "nt" else "bin"
    own = environment / bin_name / Path(python).name
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs, ours = (
        subprocess.run([each, "-c", where], check=True, capture_output=True, text=True).stdout.strip()
        for each in (python, str(own))
    )
    lines = [str(folder / "telemetry"), str(folder / "exporters"), f"import site; site.addsitedir({theirs!r})"]
    Path(ours, "copy.pth").write_text("\n".join(lines) + "\n", "utf-8")
    return str(own)


class Judges:
    """Tests of one group of sources, by executed line, from the coverage of one run."""

    def __init__(self, python: str, tests: Sequence[str]) -> None:
        self.command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist"]
        self.tests = list(tests)
        data = Path(".coverage")
        data.unlink(missing_ok=True)
        settings = Path("coverage.ini")  # without child processes, which do not know the test that started them
        settings.write_text("[run]\nsource_pkgs = sidestream, sidestream_exporters\n", "utf-8")
        measured = ["--cov", f"--cov-config={settings}", "--cov-context=test", "--cov-report="]
        bare = subprocess.run([*self.command, "-rf", *measured, *tests], capture_output=True, text=True)
        if bare.returncode not in {0, 1}:
            raise SystemExit(f"the tests cannot be run\n{bare.stdout}{bare.stderr}")
        failed = [line.split()[1] for line in bare.stdout.splitlines() if line.startswith("FAILED ")]
        for test in failed:
            print(f"{test} fails beneath coverage, and judges nothing")
        self.deselected = [f"--deselect={test}" for test in failed]
        self.lines = coverage.CoverageData(str(data))
        self.lines.read()

    def of(self, file: Path, lines: range) -> list[str]:
        """Ids of the tests that execute one of `lines`; all tests if no test or the import executes them."""
        contexts = self.lines.contexts_by_lineno(str(file.resolve()))
        found = {context for line in lines for context in contexts.get(line, ())}
        return self.tests if not found or "" in found else sorted({context.rpartition("|")[0] for context in found})

    def command_for(self, file: Path, lines: range) -> str:
        arguments = Path("tests.txt")
        arguments.write_text("\n".join(self.of(file, lines)), "utf-8")
        return shlex.join([*self.command, "-x", *self.deselected, f"@{arguments}"])


def try_room(name: str, mutants: int, seed: int, python: str, timeout: float) -> list[str]:
    """Prints a sign for each change, and the diffs of the survivors."""
    sources, tests = ROOMS[name]
    judges = Judges(python, tests)
    with tempfile.TemporaryDirectory() as there:
        all_changes = changes(sources, Path(there) / "session.sqlite")
    chosen = random.Random(seed).sample(all_changes, min(mutants, len(all_changes)))
    print(f"{name}: {len(chosen)} of {len(all_changes)} changes", end=" ", flush=True)
    survived = []
    for item in chosen:
        [change] = item.mutations
        command = judges.command_for(change.module_path, range(change.start_pos[0], change.end_pos[0] + 1))
        result = mutate_and_test(item.mutations, command, timeout)
        print("." if result.is_killed else "S", end="", flush=True)
        if not result.is_killed:
            survived.append(result.diff or result.output or str(item))
            print(f"\n{survived[-1]}\n", file=sys.stderr, flush=True)
    print(f" {len(chosen) - len(survived)} noticed", flush=True)
    return survived


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", default=",".join(ROOMS), help=f"of {', '.join(ROOMS)}")
    parser.add_argument("--mutants", type=int, default=160, help="changes in all, shared evenly by the rooms")
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--python", default=sys.executable, help="one with what the tests need")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for the tests of one change")
    asked = parser.parse_args()
    rooms = asked.rooms.split(",")
    if unknown := set(rooms) - set(ROOMS):
        parser.error(f"no room {', '.join(sorted(unknown))}; there are {', '.join(ROOMS)}")
    python = str(Path(asked.python).absolute())
    survived: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        copy_checkout(Path(folder))
        os.chdir(folder)
        # A cached bytecode file of the same size and second would be reused for the next change.
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        python = interpreter(Path(folder), python)
        for room in rooms:
            survived += try_room(room, asked.mutants // len(rooms), asked.seed, python, asked.timeout)
    print(f"{len(survived)} changes survived")
    return 0


if __name__ == "__main__":
    sys.exit(main())
