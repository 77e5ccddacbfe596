"""Row 6: speed of the JSONL exporter, compared with encoded bytes and with encoding by hand.

The exporter sleeps 100 µs between the slices of a large batch to leave the GIL to the agents: that is in its wall time.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from sidestream.events import LLMChunk, StreamEvent, make_event
from sidestream_exporters.jsonl import JSONLExporter

from .environments import NotInstalled, library
from .report import Spread, Table, progress, ratio, verdict

BLOCK = 64 * 1024
BATCH = 64


def jsonl_write(*, events: int, rounds: int) -> Table:
    table = Table(
        f"6. JSONL writing, {rounds} interleaved rounds; median (quartiles)",
        "≤ 2.5 of ready bytes in 64 KiB blocks, ≤ 0.5 of orjson + join + write",
    )
    orjson = _orjson(table)
    for deltas, count in ((1, events), (40, events // 10)):
        progress(f"jsonl: {count:,} events of {deltas} deltas")
        made = _make(deltas, count)
        folder = Path(tempfile.mkdtemp(prefix="sidestream-bench-"))
        ready = _ready_bytes(made, folder)
        by_hand = orjson and _by_hand(orjson, made, folder)
        exporters = {f"batches of {size}": _exporter(size, made, folder) for size in (BATCH, 1024)}
        ways = {"ready": ready, "bare": _bare(made, folder), **exporters, **({"by hand": by_hand} if by_hand else {})}
        taken = _measure(ways, folder, rounds)
        shutil.rmtree(folder)
        for name in exporters:
            wall, cpu = (Spread.of_pairs(taken["ready"][i], taken[name][i], ratio) for i in (0, 1))
            bare = Spread.of_pairs(taken["bare"][1], taken[name][1], ratio)
            hand = (
                [Spread.of_pairs(taken["by hand"][i], taken[name][i], ratio) for i in (0, 1)] if by_hand else [None] * 2
            )
            table.add(
                events=f"{count:,} of {deltas} delta{'s' if deltas > 1 else ''}",
                exporter=name,
                **{
                    "wall/ready": wall,
                    "CPU/ready": cpu,
                    "CPU/bare": bare,
                    "wall/orjson": hand[0],
                    "CPU/orjson": hand[1],
                },
                **{"CPU µs an event": Spread.of([seconds / count * 1e6 for seconds in taken[name][1]])},
                goal=verdict(cpu.median <= 2.5, hand[1] is None or hand[1].median <= 0.5),
            )
    table.notes.append(f"bare: msgspec's `encode_lines` and `os.write`, {BATCH} events at a time, and nothing else")
    table.notes.append(f"orjson: dicts that are there already, dumped one by one, joined and written {BATCH} at a time")
    return table


def _orjson(table: Table) -> Callable[[object], bytes] | None:
    try:
        sys.path.append(library("orjson"))
        import orjson  # type: ignore[import-not-found,unused-ignore]
    except (NotInstalled, ImportError) as reason:
        table.notes.append(f"orjson skipped: {reason}")
        return None
    dumps: Callable[[object], bytes] = orjson.dumps
    return dumps


def _make(deltas: int, count: int) -> list[StreamEvent]:
    data = LLMChunk(
        request=1,
        part=0,
        kind="text",
        text="token " * deltas,
        lengths=[6] * deltas,
        offsets_us=[12_300 * n for n in range(deltas)],
    )
    run_id = "0192f0c5-8c0e-7cc0-a5a3-1f1b2c3d4e5f"
    return [make_event(data, run_id=run_id, seq=n, offset=n * 0.1, agent_name="assistant") for n in range(count)]


def _exporter(size: int, events: list[StreamEvent], folder: Path) -> Callable[[], None]:
    batches = [events[start : start + size] for start in range(0, len(events), size)]

    def write() -> None:
        exporter = JSONLExporter(folder / "runs", rotate_bytes=None)
        exporter.start()
        for batch in batches:
            exporter.export(batch)
        exporter.close()

    return write


def _ready_bytes(events: list[StreamEvent], folder: Path) -> Callable[[], None]:
    data = msgspec.json.Encoder().encode_lines(events)
    blocks = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]

    def write() -> None:
        fd = os.open(folder / "ready", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for block in blocks:
            os.write(fd, block)
        os.close(fd)

    return write


def _bare(events: list[StreamEvent], folder: Path) -> Callable[[], None]:
    encode = msgspec.json.Encoder().encode_lines
    batches = [events[start : start + BATCH] for start in range(0, len(events), BATCH)]

    def write() -> None:
        fd = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for batch in batches:
            os.write(fd, encode(batch))
        os.close(fd)

    return write


def _by_hand(dumps: Callable[[object], bytes], events: list[StreamEvent], folder: Path) -> Callable[[], None]:
    plain = [msgspec.to_builtins(event) for event in events]

    def write() -> None:
        with open(folder / "joined", "ab") as file:
            for start in range(0, len(plain), BATCH):
                file.write(b"\n".join([dumps(event) for event in plain[start : start + BATCH]]) + b"\n")
                file.flush()

    return write


def _measure(
    ways: dict[str, Callable[[], None]], folder: Path, rounds: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Wall and CPU seconds of each way by round. The ways alternate, so a slow moment of the disk affects all."""
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            shutil.rmtree(folder)
            folder.mkdir()
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            if number:
                taken[name][0].append(time.perf_counter() - wall)
                taken[name][1].append(time.process_time() - cpu)
    return taken
