"""Store of runs over the log files of this machine, by their index."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from sidestream.log.files import Paths, files_of
from sidestream.log.reader import OnProblem, blocks_of
from sidestream.log.runs.filters import Filter, Order
from sidestream.log.runs.overview import RunNames, RunsOverTime, TimedRun, in_bins, names, timed
from sidestream.log.runs.summary import RunSummary, summary_of
from sidestream.log.runs.totals import Statistics, summed
from sidestream.log.runs.tree import Located
from sidestream.log.store import ConversationRuns, RunPage, Stretch
from sidestream.log.writers import Writers

from .conversations import conversations_of, every_conversation
from .listing import events_of, join, listing_of, stretches_of_runs
from .parts import Facts, RunPart
from .queries import names_in
from .rows import AGENT, MODELS, TOOLS


class LocalLog:
    """`RunStore` over log files."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._found: list[tuple[Path, RunPart]] = []  # of the last `tree`, since its runs are usually requested next

    def summaries(
        self, where: Filter | None = None, *, facts: bool = False, on_problem: OnProblem | None = None
    ) -> Iterator[tuple[RunSummary, Facts | None]]:
        with listing_of(self._paths) as listing:
            listing.report(on_problem)
            for run, part in listing.runs(where):
                yield run, part if facts else None

    def page(
        self, where: Filter | None, order: Order, *, limit: int, offset: int = 0, on_problem: OnProblem | None = None
    ) -> RunPage:
        with listing_of(self._paths) as listing:
            listing.report(on_problem)
            runs, total = listing.page(where, order, limit=limit, offset=offset)
        return RunPage(runs=runs, total=total)

    def conversations(
        self, where: Filter | None, *, limit: int, offset: int = 0, on_problem: OnProblem | None = None
    ) -> ConversationRuns:
        with listing_of(self._paths) as listing:
            listing.report(on_problem)
            return conversations_of(listing, where, limit=limit, offset=offset)

    def every_conversation(
        self, where: Filter | None, *, on_problem: OnProblem | None = None
    ) -> Iterator[ConversationRuns]:
        with listing_of(self._paths) as listing:
            listing.report(on_problem)
            yield from every_conversation(listing, where)

    def over_time(self, where: Filter | None, *, bins: int) -> RunsOverTime:
        with_sub_agents = where is not None and where.outermost
        with listing_of(self._paths) as listing:
            settled, others = listing.measured(where, with_sub_agents=with_sub_agents)
        found = [
            TimedRun(at / 10**6, outcome, cost, bool(is_bound), took)
            for at, outcome, cost, is_bound, took in settled
            if at is not None
        ]
        return in_bins([*found, *timed(others, with_sub_agents=with_sub_agents)], bins)

    def statistics(
        self, where: Filter | None, *, tags: Collection[str], on_problem: OnProblem | None = None
    ) -> Statistics:
        return summed(self.summaries(where, facts=True, on_problem=on_problem), tags)

    def names(self) -> RunNames:
        with listing_of(self._paths) as listing:
            settled, others = listing.names()
        found = names(others)
        for its in settled:
            found = found.and_of(
                agents=its[AGENT],
                models=[model for text in its[MODELS] for model in names_in(text)],
                tools=[tool for text in its[TOOLS] for tool in names_in(text)],
            )
        return found

    def called(self, name: str) -> list[RunSummary]:
        with listing_of(self._paths) as listing:
            return list(listing.summaries([name])) or listing.called(name)

    def tree(self, prefix: str) -> list[RunSummary]:
        with listing_of(self._paths) as listing:
            self._found = listing.parts_of_tree(prefix)
        writers = Writers()
        return [summary_of(part, files, writers) for part, files in join(self._found)]

    def located(self, run_ids: Collection[str]) -> Iterator[Located]:
        wanted = set(run_ids)
        found = self._found
        if not wanted <= {part.run_id for _, part in found}:
            with listing_of(self._paths) as listing:
                found = listing.parts(wanted)
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
            with suppress(OSError):  # deleted or compressed since it was listed
                status = file.stat()
                stamps.append((str(file), status.st_size, status.st_mtime_ns))
        return tuple(stamps)
