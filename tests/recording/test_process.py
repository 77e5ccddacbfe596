"""Identity of the process that observes a run."""

from __future__ import annotations

import subprocess
import sys

NO_FILES = """
import asyncio, os
from pathlib import Path
from sidestream import InMemoryExporter, Sidecar

def refused(*_):
    raise RuntimeError("a blocking call on the event loop")

async def main():
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        os.readlink = Path.read_text = refused
        run = sidecar.open_run("run", "agent", None)
        run.start()
        sidecar.close_run(run)
        await asyncio.to_thread(sidecar.flush)
        print(sidecar.stats().recording_errors, memory.of("agent_start")[0].data.pid == os.getpid())

asyncio.run(main())
"""


def test_no_event_loop_reads_it_from_the_system() -> None:
    """Detectors of blocking calls raise in the middle of an event loop."""
    done = subprocess.run([sys.executable, "-c", NO_FILES], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True"]
