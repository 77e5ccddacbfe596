"""The log files of this machine as a store of runs, by way of the index beside them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from heapq import nsmallest
from pathlib import Path

from sidestream.log.files import Paths, files_of
from sidestream.log.reader import OnProblem, blocks_of
from sidestream.log.runs.filters import Filter, Order
from sidestream.log.runs.naming import called
from sidestream.log.runs.overview import RunNames, RunsOverTime, names, over_time
from sidestream.log.runs.summary import RunSummary, summary_of
from sidestream.log.runs.tree import Located
from sidestream.log.store import RunPage, Stretch
from sidestream.log.writers import Writers

from .listing import events_of, every_run, join, parts_of_runs, parts_of_tree, stretches_of_runs
from .parts import Facts, RunPart


class LocalLog:
    """Log files: a `RunStore`."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._found: list[tuple[Path, RunPart]] = []  # of the last tree: its runs are asked for next

    def summaries(
        self, where: Filter | None = None, *, facts: bool = False, on_problem: OnProblem | None = None
    ) -> Iterator[tuple[RunSummary, Facts | None]]:
        for run, its in every_run(self._paths, facts=facts, on_problem=on_problem):
            if where is None or where.matches(run):
                yield run, its

    def page(
        self, where: Filter | None, order: Order, *, limit: int, offset: int = 0, on_problem: OnProblem | None = None
    ) -> RunPage:
        total = 0

        def counted() -> Iterator[RunSummary]:
            nonlocal total
            for run, _ in self.summaries(where, on_problem=on_problem):
                total += 1
                yield run

        every = counted()
        some = nsmallest(offset + limit, every, key=order.key)
        deque(every, maxlen=0)  # nobody looks at them where the limit is 0, and they count all the same
        return RunPage(runs=some[offset:], total=total)

    def over_time(self, where: Filter | None, *, bins: int) -> RunsOverTime:
        found = (run for run, _ in self.summaries(where))
        return over_time(found, bins, with_sub_agents=where is not None and where.outermost)

    def names(self) -> RunNames:
        return names(run for run, _ in self.summaries())

    def called(self, name: str) -> list[RunSummary]:
        exact = [run for run in self.tree(name) if run.run_id == name]
        return exact or called(name, (run for run, _ in self.summaries()))

    def tree(self, prefix: str) -> list[RunSummary]:
        self._found = parts_of_tree(self._paths, prefix)
        writers = Writers()
        return [summary_of(part, files, writers) for part, files in join(self._found)]

    def located(self, run_ids: Collection[str]) -> Iterator[Located]:
        wanted = set(run_ids)
        found = self._found
        if not wanted <= {part.run_id for _, part in found}:
            found = parts_of_runs(self._paths, wanted)
        spans: dict[Path, list[list[int]]] = {}
        for file, part in found:
            if part.run_id in wanted:
                spans.setdefault(file, []).extend(part.spans)
        for file, its in spans.items():
            for number, event in events_of(file, its, wanted):
                yield Located(event, str(file), number)

    def stretches(self, run_ids: Collection[str] | None, on_problem: OnProblem | None = None) -> Iterator[Stretch]:
        if run_ids is not None:
            return ((str(file), blocks) for file, blocks in stretches_of_runs(self._paths, set(run_ids)))
        return ((str(file), blocks_of(file, on_problem)) for file in files_of(self._paths))

    def state(self) -> object:
        stamps = []
        for file in files_of(self._paths):
            with suppress(OSError):  # gone, or compressed, since it was listed
                status = file.stat()
                stamps.append((str(file), status.st_size, status.st_mtime_ns))
        return tuple(stamps)
