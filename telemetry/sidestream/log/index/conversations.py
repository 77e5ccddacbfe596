"""Conversations by the index: a page of them reads the runs of its own conversations and no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sidestream.log.runs.filters import Filter
from sidestream.log.runs.summary import RunSummary
from sidestream.log.store import ConversationRuns

from .listing import Listing
from .rows import microseconds
from .writer import in_lots


def conversations_of(listing: Listing, where: Filter | None, *, limit: int, offset: int) -> ConversationRuns:
    """Conversations with a run that `where` takes, the one with the latest turn first."""
    if len(listing.folders) == 1:
        ids, total = _by_index(listing, where, limit, offset)
        return ConversationRuns(ids=ids, runs=listing.runs_of_conversations(ids), total=total)
    return _from_all_runs(listing, where, limit, offset)


def every_conversation(listing: Listing, where: Filter | None) -> Iterator[ConversationRuns]:
    """All conversations with a run that `where` takes, the one with the latest turn first, some at a time."""
    if len(listing.folders) != 1:
        yield _from_all_runs(listing, where, None, 0)
        return
    ids, total = _by_index(listing, where, None, 0)
    for some in in_lots(ids):
        yield ConversationRuns(ids=some, runs=listing.runs_of_conversations(some), total=total)


def _from_all_runs(listing: Listing, where: Filter | None, limit: int | None, offset: int) -> ConversationRuns:
    # Runs of a family may lie in several folders, of which each has an index of its own.
    every = [run for run, _ in listing.runs(None)]
    taken = None if where is None else {run.root_run_id for run in every if where.matches(run)}
    ranked = _latest_first(_latest(every, taken))
    ids = ranked[offset:][:limit]
    return ConversationRuns(ids=ids, runs=every, total=len(ranked))


def _by_index(listing: Listing, where: Filter | None, limit: int | None, offset: int) -> tuple[list[str], int]:
    (folder,) = listing.folders
    going_on = [run for run, _ in listing.unsettled(None)]
    outermost = {run.run_id: run for run in going_on if _is_turn(run)}
    latest = _latest(going_on, None)
    also: set[str] = set(latest)
    if where is not None:
        roots = {run.root_run_id for run in going_on if where.matches(run)} | folder.roots(where, outermost)
        also = {run.conversation_id or "" for run_id, run in outermost.items() if run_id in roots}
        also |= folder.conversations_of(roots)
    settled = folder.conversations(where, also, limit=-1 if limit is None else offset + limit)
    known = dict(folder.conversations(where, also, among=latest)) if latest else {}
    total = folder.count_conversations(where, also) + len(also - known.keys() if latest else ())
    # A turn that goes on moves its conversation up, so that the others of the page are among those asked for.
    ranked = dict(settled) | known
    for conversation_id, began in latest.items():
        if conversation_id in also or conversation_id in known:
            ranked[conversation_id] = max(ranked.get(conversation_id) or 0, began or 0)
    return _latest_first(ranked)[offset:][:limit], total


def _is_turn(run: RunSummary) -> bool:
    return run.parent_run_id is None and bool(run.conversation_id)


def _latest(runs: Iterable[RunSummary], roots: set[str] | None) -> dict[str, int | None]:
    """Beginning of the latest turn of each conversation, of those with a run in the families of `roots` if given."""
    turns = [run for run in runs if _is_turn(run)]
    taken = {run.conversation_id for run in turns if roots is None or run.root_run_id in roots}
    latest: dict[str, int | None] = {}
    for run in turns:
        if run.conversation_id is not None and run.conversation_id in taken:
            began, before = microseconds(run.started), latest.get(run.conversation_id)
            latest[run.conversation_id] = max((each for each in (began, before) if each is not None), default=None)
    return latest


def _latest_first(latest: dict[str, int | None]) -> list[str]:
    return sorted(latest, key=lambda each: (latest[each] or 0, each), reverse=True)
