"""Real programs in processes of their own, and their logs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from sidestream import StreamEvent, decode_line

SAFETY = 60.0
"""Seconds after which a program is considered hung."""

OBSERVED = """
    import os
    from sidestream import Exporter, ExporterUnavailable, Sidecar
    LOG = os.environ["LOG"]

    def record(sidecar, run_id="r", events=1):
        run = sidecar.open_run(run_id, "agent", None)
        run.start()
        for number in range(events):
            run.custom("step", number)
        run.end("completed")
        sidecar.close_run(run)
"""
"""Preamble without an agent: `record(sidecar, run_id, events)` makes a run of `events + 2` events."""

AGENT = """
    import asyncio, os, sys
    from pydantic_ai import Agent
    from pydantic_ai.models.function import FunctionModel
    from sidestream import Sidecar
    LOG = os.environ["LOG"]

    async def words(messages, info):
        for number in range(int(os.environ.get("WORDS", "20"))):
            yield f"word{number} "
            await asyncio.sleep(float(os.environ.get("PAUSE", "0")))

    agent = Agent(FunctionModel(stream_function=words), name="speaker")
    if os.environ.get("OBSERVE", "1") == "1":
        sidecar = Sidecar(f"jsonl:{LOG}/")
        sidecar.observe(agent)
    async def speak():
        async with agent.run_stream("go") as stream:
            async for text in stream.stream_text(delta=True):
                print(text, flush=True)
"""
"""Preamble with an agent: `agent`, observed unless OBSERVE is 0, streams WORDS words with pauses of PAUSE seconds."""


@dataclass
class Ended:
    """Finished program."""

    code: int
    out: str
    err: str
    log: Path

    def files(self) -> dict[str, list[StreamEvent]]:
        """Events of each log file. Raises if a line is not an event."""
        return {
            path.name: [decode_line(line) for line in path.read_bytes().splitlines()]
            for path in sorted(self.log.glob("*.jsonl"))
        }

    def runs(self) -> dict[str, list[str]]:
        """Event types by run, in the order of the log. Asserts that no event is missing or duplicated."""
        runs: dict[str, list[str]] = {}
        for events in self.files().values():
            for event in events:
                types = runs.setdefault(event.run_id, [])
                assert event.seq == len(types), (event.run_id, event.seq, types)
                types.append(str(event.event_type))
        return runs


class Program:
    """Running program."""

    def __init__(self, folder: Path, source: str, **env: str) -> None:
        self.log = folder / "log"
        script = folder / "program.py"
        folder.mkdir(parents=True, exist_ok=True)
        script.write_text("\n".join(textwrap.dedent(part) for part in source.split("# ---\n")))
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "LOG": str(self.log), **env},
            start_new_session=True,
        )

    def wait_for_line(self) -> str:
        """Wait for a line of output."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> Ended:
        try:
            out, err = self._process.communicate(timeout=SAFETY)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            out, err = self._process.communicate()
            raise AssertionError(f"the program hangs\n{out}\n{err}") from None
        return Ended(self._process.returncode, out, err, self.log)


def run_program(folder: Path, source: str, **env: str) -> Ended:
    return Program(folder, source, **env).wait()
