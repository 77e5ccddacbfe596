"""Questions to the index: which runs a log holds, and where in its files they are. The whole log is never read."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from sidestream.errors import UnreadableLogError
from sidestream.events import AnyEvent
from sidestream.log.files import Paths, files_of
from sidestream.log.reader import NOT_READABLE, Block, OnProblem, blocks_of, decode_block, decode_line, decoder_of
from sidestream.log.runs.summary import RunSummary, summary_of
from sidestream.log.writers import Writers

from .parts import Facts, RunPart, join_spans
from .store import Index

PartOfFiles = tuple[RunPart, list[str]]
"""What a log holds of a run, and the files that hold it."""


def every_run(
    paths: Paths, *, facts: bool = False, on_problem: OnProblem | None = None
) -> Iterator[tuple[RunSummary, Facts | None]]:
    """The runs of a log in no order, with their single requests and tool calls where `facts` are wanted."""
    with _indexed(paths) as files:
        for problem in [problem for file, index in files for problem in index.problems(file)]:
            if on_problem is not None:
                on_problem(problem)
            elif problem.kind == "unreadable" and os.path.exists(problem.file):
                raise UnreadableLogError(f"cannot read {problem.file}: {problem.message}")
        known: set[str] = set()
        spread: set[str] = set()  # over several files, or without an end
        for file, index in files:
            for run_id, whole in index.ids(file):
                if not whole or run_id in known:
                    spread.add(run_id)
                known.add(run_id)
        for file, index in files:
            for run, its in index.runs(file, facts=facts):
                if run.run_id not in spread:
                    yield run, its
        parts = join((file, part) for file, index in files for part in index.parts(file, spread)) if spread else []
    writers = Writers()
    for part, its_files in parts:
        yield summary_of(part, its_files, writers), part


def join(parts: Iterable[tuple[Path, RunPart]]) -> list[PartOfFiles]:
    """What several files hold of runs, by run."""
    found: dict[str, PartOfFiles] = {}
    for file, part in parts:
        if (known := found.get(part.run_id)) is None:
            found[part.run_id] = (part, [str(file)])
        else:
            known[0].add(part)
            known[1].append(str(file))
    return list(found.values())


def parts_of_tree(paths: Paths, prefix: str) -> list[tuple[Path, RunPart]]:
    """What each file holds of the runs whose id begins with `prefix`, and of every run of the same trees."""
    with _indexed(paths) as files:
        indexes = list(dict.fromkeys(index for _, index in files))
        # A run's root stands at its beginning alone, which another file may hold: runs first, then all their parts.
        begun = [pair for index in indexes for pair in index.ids_starting_with(prefix)]
        roots = {root for _, root in begun}
        ids = {run_id for index in indexes for run_id in index.ids_of_trees(roots)} | {run_id for run_id, _ in begun}
        return [(file, part) for file, index in files for part in index.parts(file, ids)]


def parts_of_runs(paths: Paths, run_ids: set[str]) -> list[tuple[Path, RunPart]]:
    """What each file holds of the runs `run_ids`."""
    with _indexed(paths) as files:
        return [(file, part) for file, index in files for part in index.parts(file, run_ids)]


@contextmanager
def _indexed(paths: Paths) -> Iterator[list[tuple[Path, Index]]]:
    """Each file of a log, in order of time, with the index of its folder."""
    files = files_of(paths)
    folders: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        folders[file.parent].append(file)
    with ExitStack() as stack:
        indexes = {folder: stack.enter_context(Index(folder, its)) for folder, its in folders.items()}
        yield [(file, indexes[file.parent]) for file in files]


# --- the events of some runs ---------------------------------------------------------------------------------------


class _Head(msgspec.Struct, gc=False):
    run_id: str


_heads = msgspec.json.Decoder(_Head)


def events_of(file: Path, spans: Iterable[list[int]], run_ids: set[str]) -> Iterator[tuple[int, AnyEvent]]:
    """The events of the runs `run_ids` within `spans` of `file`, with the numbers of their lines."""
    decoder = decoder_of(None)
    for block in _blocks_within(file, spans):
        lines = block.data.split(b"\n")
        heads = decode_block(block, _heads, str(file), None)
        wanted: Iterable[int] = range(len(lines))
        if len(heads) == block.lines:
            wanted = (place for place, head in enumerate(heads) if head.run_id in run_ids)
        for place in wanted:
            with suppress(*NOT_READABLE):
                for event in decode_line(lines[place], decoder):
                    if event.run_id in run_ids:
                        yield block.line + place, event


def stretches_of_runs(paths: Paths, run_ids: set[str]) -> Iterator[tuple[Path, Iterator[Block]]]:
    """The stretches of a log's files that hold the runs `run_ids`, file by file; other runs' lines are among them."""
    with _indexed(paths) as files:
        spans = [(file, [span for part in index.parts(file, run_ids) for span in part.spans]) for file, index in files]
    for file, its in spans:
        if its:
            yield file, _blocks_within(file, its)


def _blocks_within(file: Path, spans: Iterable[list[int]]) -> Iterator[Block]:
    """The blocks of `file` within `spans`, cut at their ends."""
    for start, end, first_line in join_spans(spans):
        for block in blocks_of(file, start=start, line=first_line):
            if block.offset >= end:
                break
            yield block if block.end <= end else Block.of(block.data[: end - block.offset], block.offset, block.line)
