"""Helpers for JSONL tests: events, a strict reader, and a writer in a process of its own.

python -m tests.support.jsonl_files SPEC WRITER THREADS BATCHES EVENTS BYTES  (BATCHES 0: until killed; prints "ready")
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sidestream.events import StreamEvent, ToolEnd, decode_line, make_event
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.registry import make_exporter
from tests.support import run_events
from tests.support.paths import ROOT


def events(count: int, *, run_id: str = "run", start: int = 0, size: int = 20) -> list[StreamEvent]:
    """`count` events with content of `size` characters, which reveals a mixture of two events."""
    return [
        make_event(ToolEnd(tool_name="t", outcome="ok", result=chr(97 + seq % 26) * size), run_id=run_id, seq=seq)
        for seq in range(start, start + count)
    ]


def chunk(*pieces: str, gap: float = 0.5, seq: int = 0) -> StreamEvent:
    """`llm_chunk` event of `pieces` that arrived `gap` seconds apart, 10 seconds into the run."""
    return make_event(run_events.chunk(*pieces, gap_us=round(gap * 1e6)), run_id="run", seq=seq, offset=10.0)


def log_files(where: Path) -> list[Path]:
    """Log files in the folder `where`, plain and compressed, sorted by name."""
    return sorted(path for path in where.iterdir() if path.name.endswith((".jsonl", ".jsonl.gz")))


def read(*paths: Path) -> list[StreamEvent]:
    """Events in `paths` (files or folders). Asserts that every file ends in a newline, and every line is an event."""
    found: list[StreamEvent] = []
    for path in paths:
        if path.is_dir():
            found += read(*log_files(path))
            continue
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert data == b"" or data.endswith(b"\n"), f"{path} ends in {data[-80:]!r}"
        found += map(decode_line, data.splitlines())
    return found


def keys(found: Iterable[StreamEvent]) -> list[tuple[str, int]]:
    """Run ids and sequence numbers of the events. Asserts that their content is intact."""
    result = []
    for event in found:
        text = event.data.result
        assert text == chr(97 + event.seq % 26) * len(text)
        result.append((event.run_id, event.seq))
    return result


def assert_each_once(found: Iterable[StreamEvent], expected: Iterable[StreamEvent]) -> None:
    assert Counter(keys(found)) == Counter(keys(expected))


def open_exporter(spec: str) -> Exporter:
    exporter = make_exporter(spec)
    exporter.start()
    return exporter


def spawn(spec: str, writer: str, threads: int, batches: int, count: int, size: int) -> subprocess.Popen[str]:
    arguments = [spec, writer, *map(str, (threads, batches, count, size))]
    command = [sys.executable, "-m", "tests.support.jsonl_files", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _write(spec: str, run_id: str, batches: int, count: int, size: int, begin: threading.Barrier) -> None:
    exporter = open_exporter(spec)
    begin.wait()
    done = 0
    while done < batches or not batches:
        exporter.export(events(count, run_id=run_id, start=done * count, size=size))
        done += 1
    exporter.close()


if __name__ == "__main__":
    spec, writer = sys.argv[1:3]
    threads, batches, count, size = map(int, sys.argv[3:])
    begin = threading.Barrier(threads + 1)
    crew = [
        threading.Thread(target=_write, args=(spec, f"{writer}.{n}", batches, count, size, begin), daemon=True)
        for n in range(threads)
    ]
    for member in crew:
        member.start()
    begin.wait()
    print("ready", flush=True)
    for member in crew:
        member.join()
