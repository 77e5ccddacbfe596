"""Generator of logs with many made-up runs, to try commands, pages and dashboards, and to benchmark readers."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from operator import attrgetter
from random import Random
from typing import TYPE_CHECKING

import msgspec

from sidestream.errors import ConfigurationError
from sidestream.events import StreamEvent

from .made_run import AGENTS, ASKED, MadeRun, chunks_of

if TYPE_CHECKING:
    from rich.progress import Progress

AT_ONCE = 12
"""Runs that overlap in time, so that their lines interleave as in a real log."""


def generate(
    path: str | os.PathLike[str],
    *,
    events: int,
    seed: int = 0,
    days: int = 7,
    until: datetime | None = None,
    on_progress: Callable[[int], object] = lambda written: None,
) -> str:
    """Write a log of exactly `events` events; returns the path of the file.

    The last runs are cut off once the number is reached, as if their process was killed: readers report them as lost.

    Args:
        path: Folder, in which the file is named as the JSONL exporter would; or a file ending in `.jsonl`.
        events: Number of events.
        seed: Seed of the random numbers; equal `seed` and `until` give equal bytes.
        days: Days over which the runs are spread, with more runs by day than by night.
        until: Start of the last runs, with a time zone. None is now.
        on_progress: Callback that gets the number of events written so far, after each batch.

    Raises:
        ConfigurationError: `events` or `days` is below 1, or the file exists or cannot be created.
    """
    if events < 1 or days < 1:
        raise ConfigurationError(f"events={events!r}, days={days!r}: must be at least 1")
    end = until.timestamp() if until else time.time()
    file = _new_file(os.fspath(path), end - days * 86_400)
    encode = msgspec.json.Encoder().encode_lines
    written = 0
    with open(file, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as log:
        for batch in _batches(Random(seed), end, days, events):
            log.write(encode(batch))
            written += len(batch)
            on_progress(written)
    return file


def generate_for_person(path: str, events: int) -> int:
    """`sidestream demo --events`: `generate` with a progress bar on a terminal; returns the exit code."""
    bar = _bar() if sys.stderr.isatty() else None
    begun = time.perf_counter()
    if bar is None:
        file = generate(path, events=events)
    else:
        with bar:
            task = bar.add_task("writing events", total=events)
            file = generate(path, events=events, on_progress=lambda written: bar.update(task, completed=written))
    taken, size = time.perf_counter() - begun, os.path.getsize(file)
    print(f"{events:,} events in {file}, {size / 1e6:,.1f} MB, {taken:.1f} s")
    return 0


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), transient=True)


def _new_file(path: str, begin: float) -> str:
    file = path
    if not path.endswith(".jsonl") or os.path.isdir(path):
        file = os.path.join(path, f"{datetime.fromtimestamp(begin, UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.jsonl")
    if os.path.exists(file):
        raise ConfigurationError(f"{file} is there already: give another name, or remove it")
    try:
        os.makedirs(os.path.dirname(file) or ".", mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{os.path.dirname(file)} cannot be made: {error.strerror}") from None
    return file


def _batches(rng: Random, end: float, days: int, wanted: int) -> Iterator[list[StreamEvent]]:
    """Batches of overlapping runs' events, ordered by time, `wanted` events in total."""
    chunks = chunks_of(rng)
    made = 0
    while made < wanted:
        # Time within the period: the rate of runs swings daily between 0.2 and 1.8 of its mean. Derived from the share
        # of events written, so that the size of one batch hardly moves the later ones.
        part = made / wanted
        at = end - 86_400 * (days * (1 - part) + 0.8 * math.sin(2 * math.pi * days * part) / (2 * math.pi))
        batch: list[StreamEvent] = []
        for _ in range(AT_ONCE):
            at += rng.random()
            MadeRun(batch, rng, chunks, AGENTS[rng.choice(ASKED)], at).record()
        batch.sort(key=attrgetter("timestamp"))
        del batch[wanted - made :]
        made += len(batch)
        yield batch
