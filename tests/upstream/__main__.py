"""Runs pydantic-ai's own tests twice, bare and with every agent observed, and prints what differs.

    python -m tests.upstream CHECKOUT --python VENV/bin/python [pytest arguments]

CHECKOUT is a work tree of pydantic-ai. The Python given has pydantic-ai of that version, what its tests need, and this
package. A test that fails in one run and not in the other is run alone, three times each way, before it is called
different: suites have tests that fail now and then, observed or not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
TRIES = 3
"""Number of repetitions of a single test, each bare and observed, that separate chance from a difference."""


def outcomes(report: Path) -> dict[str, str]:
    """Outcome of each test in a JUnit report, by its name."""
    found: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found[f"{case.get('classname')}::{case.get('name')}"] = kinds[0] if kinds else "passed"
    return found


def run(checkout: Path, python: str, arguments: Sequence[str], *, observed: bool, show: bool = True) -> dict[str, str]:
    """Outcomes of the tests that `arguments` select; of all tests if empty."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        command = [python, "-m", "pytest", "-q", "--continue-on-collection-errors", "-p", "no:cacheprovider"]
        command += ["-p", "observe_every_agent"] if observed else []
        done = subprocess.run(
            [*command, f"--junitxml={report}", *arguments],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": path, "SIDESTREAM_SIGNALS": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if show:
            told = [line for line in done.stdout.splitlines() if line.startswith(("observed ", "a worker died"))]
            print("\n".join(["observed:" if observed else "bare:", *told]), flush=True)
        if not report.exists():
            sys.exit(f"pytest told nothing:\n{done.stdout[-2_000:]}\n{done.stderr[-2_000:]}")
        return outcomes(report)


def node_id(name: str) -> str:
    """Pytest's node id of the test with the report's `name`, such as `tests.models.test_x.TestY::test_z[a]`."""
    place, _, test = name.partition("::")
    module, _, classes = place.partition(".Test")
    return "::".join([module.replace(".", "/") + ".py", *([f"Test{classes}"] if classes else []), test])


def is_different(checkout: Path, python: str, name: str) -> bool:
    """Whether the test `name`, run alone, never has the same outcome bare and observed."""
    told = [
        {run(checkout, python, [node_id(name)], observed=observed, show=False).get(name) for _ in range(TRIES)}
        for observed in (False, True)
    ]
    return not told[0] & told[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.upstream", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--python", default=sys.executable)
    options, arguments = parser.parse_known_args()
    arguments = arguments or ["tests", "-n", "2"]
    bare = run(options.checkout, options.python, arguments, observed=False)
    observed = run(options.checkout, options.python, arguments, observed=True)
    apart = sorted(name for name in bare.keys() | observed.keys() if bare.get(name) != observed.get(name))
    print(f"{len(bare)} tests, {dict(Counter(bare.values()))} bare, {dict(Counter(observed.values()))} observed")
    different = []
    for name in apart:
        again = is_different(options.checkout, options.python, name)
        different += [name] if again else []
        print(f"{'DIFFERENT' if again else 'by chance'}: {name}: {bare.get(name)} bare, {observed.get(name)} observed")
    print(f"{len(different)} of {len(bare)} tests end otherwise where every agent is observed")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
