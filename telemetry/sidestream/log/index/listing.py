"""Queries across the indexes of a log's folders: the runs and their lines, without reading the whole log."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from heapq import merge
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

import msgspec

from sidestream.errors import UnreadableLogError
from sidestream.events import AnyEvent
from sidestream.log.files import Paths, files_of
from sidestream.log.reader import NOT_READABLE, Block, OnProblem, blocks_of, decode_block, decode_line, decoder_of
from sidestream.log.runs.filters import Filter, Order
from sidestream.log.runs.naming import is_called
from sidestream.log.runs.summary import RunSummary, summary_of
from sidestream.log.writers import Writers

from .folder import IndexedFolder, Measured, PartOfFile
from .parts import RunPart, join_spans
from .queries import SortKey
from .rows import trace_key
from .writer import in_lots

PartOfFiles = tuple[RunPart, list[str]]
"""Part of one run, merged over files, and the files that hold its events."""


class Listing:
    """Runs of one log, over the indexes of its folders. Usable while those are open."""

    def __init__(self, folders: list[IndexedFolder], files: list[Path]) -> None:
        self.folders = folders
        """Index of each folder."""
        self._places = {file: place for place, file in enumerate(files)}
        self._writers = Writers()
        if len(folders) > 1:
            shared = _repeated(merge(*(folder.ids() for folder in folders)))
            for folder in folders:
                folder.exclude(shared)

    def report(self, on_problem: OnProblem | None) -> None:
        """Report unreadable lines. Without `on_problem`, raises `UnreadableLogError` for an unreadable file."""
        for problem in [problem for folder in self.folders for problem in folder.problems()]:
            if on_problem is not None:
                on_problem(problem)
            elif problem.kind == "unreadable" and os.path.exists(problem.file):
                raise UnreadableLogError(f"cannot read {problem.file}: {problem.message}")

    def runs(self, where: Filter | None) -> Iterator[tuple[RunSummary, RunPart]]:
        """Runs that match `where`, unordered."""
        for folder in self.folders:
            for found in folder.settled(where):
                for part, files in join(found):
                    run = summary_of(part, files, self._writers)
                    if where is None or where.matches(run):  # the filter may have conditions that the SQL lacks
                        yield run, part
        yield from self.unsettled(where)

    def page(self, where: Filter | None, order: Order, *, limit: int, offset: int) -> tuple[list[RunSummary], int]:
        """At most `limit` runs sorted by `order`, starting at `offset`, and the total number of runs."""
        others = {run.run_id: run for run, _ in self.unsettled(where)}
        total = sum(folder.count(where) for folder in self.folders) + len(others)
        # At most that many unsettled runs can precede the page.
        first = max(0, offset - len(others))
        settled = self._ranked(where, order, limit=offset + limit - first, offset=first)
        both = merge(settled, sorted((order.key(run), run.run_id) for run in others.values()))
        ids = [run_id for _, run_id in islice(both, offset - first, offset - first + limit)]
        known = {run.run_id: run for run in self.summaries(run_id for run_id in ids if run_id not in others)} | others
        return [known[run_id] for run_id in ids if run_id in known], total

    def measured(self, where: Filter | None, *, with_sub_agents: bool) -> tuple[list[Measured], list[RunSummary]]:
        """Settled runs that match `where`, as rows, and the other runs, as summaries."""
        settled = [row for folder in self.folders for row in folder.measured(where, with_sub_agents=with_sub_agents)]
        return settled, [run for run, _ in self.unsettled(where)]

    def names(self) -> tuple[list[dict[int, list[str]]], list[RunSummary]]:
        """Names in the settled runs of each folder, and the other runs as summaries."""
        return [folder.names() for folder in self.folders], [run for run, _ in self.unsettled(None)]

    def parts(self, run_ids: Collection[str]) -> list[PartOfFile]:
        """Parts of the runs `run_ids`, in the order of the files."""
        found = [pair for folder in self.folders for pair in folder.parts(run_ids)]
        return sorted(found, key=lambda pair: self._places[pair[0]]) if len(self.folders) > 1 else found

    def parts_of_tree(self, prefix: str) -> list[PartOfFile]:
        """Parts of the runs whose id begins with `prefix`, and of all runs of their trees."""
        matching = [pair for folder in self.folders for pair in folder.with_prefix(prefix)]
        roots = {root for _, root in matching}
        return self.parts(
            {run for folder in self.folders for run in folder.of_trees(roots)} | {run for run, _ in matching}
        )

    def called(self, name: str) -> list[RunSummary]:
        """Runs of the trace `name` and runs whose id begins or ends with `name`, unordered."""
        wanted = name.strip().lower()
        ids = {
            run
            for folder in self.folders
            for run in folder.called(trace_key(wanted), lambda run: is_called(run, wanted))
        }
        return list(self.summaries(ids))

    def summaries(self, run_ids: Iterable[str]) -> Iterator[RunSummary]:
        for some in in_lots(run_ids):
            for part, files in join(self.parts(some)):
                yield summary_of(part, files, self._writers)

    def runs_of_conversations(self, conversation_ids: Collection[str]) -> list[RunSummary]:
        """Every run of conversations, sub-agents included, in no order."""
        turns = [turn for folder in self.folders for turn in folder.turns_of(conversation_ids)]
        roots = {root for _, root in turns}
        families = {run_id for folder in self.folders for run_id in folder.of_trees(roots)}
        return list(self.summaries(families | {run_id for run_id, _ in turns}))

    def _ranked(self, where: Filter | None, order: Order, *, limit: int, offset: int) -> Iterable[tuple[SortKey, str]]:
        if len(self.folders) == 1:
            return self.folders[0].ranked(where, order, limit=limit, offset=offset)
        every = merge(*(folder.every_ranked(where, order) for folder in self.folders))
        return islice(every, offset, offset + limit)

    def unsettled(self, where: Filter | None) -> Iterator[tuple[RunSummary, RunPart]]:
        """The runs that `where` takes of those that no index row settles: without an end, or in several places."""
        for some in in_lots({run_id for folder in self.folders for run_id in folder.unsettled()}):
            for part, files in join(self.parts(some)):
                run = summary_of(part, files, self._writers)
                if where is None or where.matches(run):
                    yield run, part


def join(parts: Iterable[PartOfFile]) -> list[PartOfFiles]:
    """Merge the parts of each run.

    A file that holds only scores of a run is not listed as its file, and a run with nothing but scores is left out.
    """
    found: dict[str, PartOfFiles] = {}
    for file, part in parts:
        its = [str(file)] if part.is_run else []
        if (known := found.get(part.run_id)) is None:
            found[part.run_id] = (part, its)
        else:
            known[0].add(part)
            known[1].extend(its)
    return [pair for pair in found.values() if pair[0].is_run]


@contextmanager
def listing_of(paths: Paths) -> Iterator[Listing]:
    """Open the indexes of the log at `paths`."""
    files = files_of(paths)
    folders: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        folders[file.parent].append(file)
    with ExitStack() as stack:
        yield Listing([stack.enter_context(IndexedFolder(folder, its)) for folder, its in folders.items()], files)


def _repeated(ids: Iterator[str]) -> set[str]:
    """Ids that occur more than once in `ids`, which are sorted."""
    found, last = set(), None
    for run_id in ids:
        if run_id == last:
            found.add(run_id)
        last = run_id
    return found


# --- the events of some runs ---------------------------------------------------------------------------------------


class _Head(msgspec.Struct, gc=False):
    run_id: str


_heads = msgspec.json.Decoder(_Head)


def events_of(file: Path, spans: Iterable[list[int]], run_ids: set[str]) -> Iterator[tuple[int, AnyEvent]]:
    """Events of the runs `run_ids` within `spans` of `file`, each with its line number."""
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
    """Stretches of the files that hold the runs `run_ids`, file by file; lines of other runs may be among them."""
    with listing_of(paths) as listing:
        parts = listing.parts(run_ids)
    for file, its in groupby(parts, itemgetter(0)):
        yield file, _blocks_within(file, [span for _, part in its for span in part.spans])


def _blocks_within(file: Path, spans: Iterable[list[int]]) -> Iterator[Block]:
    """Blocks of `file` within `spans`, cut at the ends of the spans."""
    for start, end, first_line in join_spans(spans):
        for block in blocks_of(file, start=start, line=first_line):
            if block.offset >= end:
                break
            yield block if block.end <= end else Block.of(block.data[: end - block.offset], block.offset, block.line)
