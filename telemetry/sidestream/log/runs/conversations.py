"""Conversations of a log: runs with the same conversation id, as the turns of one conversation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime

import msgspec

from sidestream.events import Usage
from sidestream.events.bounds import Figure
from sidestream.log.files import Paths
from sidestream.log.open_store import store_of
from sidestream.log.reader import OnProblem
from sidestream.log.store import ConversationRuns

from .filters import Filter
from .iteration import when
from .summary import RunSummary, SeenOutcome, sum_usd, total_usage


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of one conversation and their totals. Unknown values are None."""

    conversation_id: str
    turns: list[str]
    """Ids of the outermost runs, in order."""
    runs: int
    """Number of runs, including sub-agents of the turns."""
    agents: list[str]
    """Names of the agents that answered, in order of their first turn."""
    started: datetime | None
    """Start of the first turn."""
    last: datetime | None
    """Start of the latest turn."""
    last_outcome: SeenOutcome
    """Outcome of the latest turn."""
    outcomes: dict[str, int]
    """Number of turns by outcome."""
    duration_seconds: float | None
    """Seconds of all turns, without the time between them."""
    usage: Usage | None
    """Usage of all runs; likewise `total_tokens` and `cost_usd`."""
    total_tokens: int | None
    cost_usd: float | None
    usage_is_lower_bound: bool
    cost_is_lower_bound: bool
    tags: dict[str, str]
    """Tags of the latest turn."""

    def is_lower_bound(self, figure: Figure) -> bool:
        """Whether the true `usage` or `cost` may be higher."""
        return self.cost_is_lower_bound if figure == "cost" else self.usage_is_lower_bound

    @property
    def unpriced_requests(self) -> int:
        """1 if the cost is unknown because a price is missing, else 0."""
        return int(self.cost_usd is None and self.cost_is_lower_bound)


class ConversationPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some conversations of a list, the one with the latest turn first."""

    conversations: list[Conversation]
    total: int
    """Number of conversations in the whole list."""


def conversations(
    paths: Paths = "runs/",
    where: Filter | None = None,
    *,
    last: int | None = None,
    on_problem: OnProblem | None = None,
) -> list[Conversation]:
    """Conversations of a log, the one with the latest turn last. Figures are those of the whole conversation.

    Args:
        paths: Paths of the log.
        where: Filter; a conversation is included if the filter accepts one of its runs.
        last: Most conversations, those with the latest turns; no run of another one is read. None for all. Memory holds
            the runs of a few hundred conversations at a time.
        on_problem: Callback for unreadable lines.

    Raises:
        ConfigurationError: A path does not exist.
        UnreadableLogError: A file cannot be read, and there is no `on_problem`.
    """
    if last is None:
        every = store_of(paths).every_conversation(_narrowed(where), on_problem=on_problem)
        return [each for some in every for each in _in_order(some)][::-1]
    return conversation_page(paths, where, limit=last, on_problem=on_problem).conversations[::-1]


def conversation_page(
    paths: Paths, where: Filter | None = None, *, limit: int, offset: int = 0, on_problem: OnProblem | None = None
) -> ConversationPage:
    """Conversations from number `offset` on, the one with the latest turn first. Raises what `conversations` raises."""
    found = store_of(paths).conversations(_narrowed(where), limit=limit, offset=offset, on_problem=on_problem)
    return ConversationPage(conversations=_in_order(found), total=found.total)


def _narrowed(where: Filter | None) -> Filter | None:
    """`where`, or None if it has no condition."""
    return None if where == Filter() else where


def _in_order(found: ConversationRuns) -> list[Conversation]:
    """Conversations of one answer of a store, in its order."""
    known = {each.conversation_id: each for each in conversations_of(found.runs)}
    return [known[each] for each in found.ids if each in known]


def conversations_of(every: Iterable[RunSummary], where: Filter | None = None) -> list[Conversation]:
    """Conversations of `every`, which are all runs of a log."""
    families: dict[str, list[RunSummary]] = defaultdict(list)
    outermost: dict[str, list[RunSummary]] = defaultdict(list)
    for run in sorted(every, key=when):
        families[run.root_run_id].append(run)
        if run.conversation_id and run.parent_run_id is None:
            outermost[run.conversation_id].append(run)
    found = []
    for conversation_id, turns in outermost.items():
        members = [member for turn in turns for member in families[turn.root_run_id]]
        if where is None or any(where.matches(member) for member in members):
            found.append(_conversation(conversation_id, turns, members))
    return sorted(found, key=lambda each: (each.last.timestamp() if each.last else 0.0, each.conversation_id))


def _conversation(conversation_id: str, turns: list[RunSummary], members: list[RunSummary]) -> Conversation:
    latest = turns[-1]
    times = [turn.duration_seconds for turn in turns if turn.duration_seconds is not None]
    tokens = [member.total_tokens for member in members if member.total_tokens is not None]
    return Conversation(
        conversation_id=conversation_id,
        turns=[turn.run_id for turn in turns],
        runs=len(members),
        agents=list(dict.fromkeys(turn.agent_name or "agent" for turn in turns)),
        started=turns[0].started,
        last=latest.started,
        last_outcome=latest.outcome,
        outcomes=dict(sorted(Counter(turn.outcome for turn in turns).items())),
        duration_seconds=round(sum(times), 6) if times else None,
        usage=total_usage(member.usage for member in members),
        total_tokens=sum(tokens) if tokens else None,
        cost_usd=sum_usd(member.cost_usd for member in members),
        usage_is_lower_bound=any(member.is_lower_bound("usage") for member in members),
        cost_is_lower_bound=any(member.is_lower_bound("cost") for member in members),
        tags=latest.tags,
    )
