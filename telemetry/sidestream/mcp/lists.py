"""Tools that list runs and conversations, search them and sum them up."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from sidestream import log
from sidestream.errors import ConfigurationError
from sidestream.log import Order
from sidestream.recording.content import ContentPolicy

from .answers import TEXT, Answer, group_line, known, number, page, run_line, shortened
from .parameters import (
    Agent,
    Conversation,
    Cursor,
    Limit,
    Model,
    Outcome,
    Since,
    Tag,
    Tool,
    Until,
    filter_of,
)

SEARCH_SECONDS = 20.0
"""Seconds after which a search tells what it has found."""


class ListTools:
    """Answers about many runs of one log."""

    def __init__(self, paths: Sequence[str], policy: ContentPolicy) -> None:
        self._paths = list(paths)
        self._policy = policy

    def list_runs(
        self,
        agent: Agent = None,
        model: Model = None,
        tool: Tool = None,
        outcome: Outcome = None,
        tag: Tag = None,
        conversation: Conversation = None,
        since: Since = None,
        until: Until = None,
        min_cost: Annotated[float | None, Field(description="US dollars, sub-agents included.")] = None,
        slower: Annotated[str | None, Field(description="Took as long or longer: 500ms, 30s, 2m.")] = None,
        sort: Annotated[
            str, Field(description="started, duration, cost, tokens or first_token, largest first; -cost: smallest.")
        ] = "started",
        sub_agents: Annotated[bool, Field(description="List the runs of sub-agents as well.")] = False,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> Answer:
        """List runs of agents, the newest first unless sorted otherwise, with how they ended, tokens and cost."""
        where = filter_of(agent, model, tool, outcome, tag, conversation, since, until, min_cost, slower)
        order = Order.parse(sort)
        found = [run for run in log.runs(self._paths, where) if sub_agents or run.parent_run_id is None]
        ordered = order.sorted(found)
        if cursor is not None:
            place = next((at for at, run in enumerate(ordered) if run.run_id == cursor), None)
            if place is None:
                raise ConfigurationError(f"cursor {cursor!r}: this list has no such run any more; begin anew")
            ordered = ordered[place + 1 :]
        return {"total": len(found), **page(ordered, run_line, limit, "runs", lambda run: run.run_id)}

    def conversations(
        self,
        agent: Agent = None,
        outcome: Outcome = None,
        tag: Tag = None,
        since: Since = None,
        until: Until = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> Answer:
        """List conversations (runs joined by a conversation id), the one with the latest turn first."""
        where = filter_of(agent, None, None, outcome, tag, None, since, until, None, None)
        found = list(reversed(log.conversations(self._paths, where)))
        start = number(cursor)

        def line(item: tuple[int, log.Conversation]) -> Answer:
            each = item[1]
            cost = each.cost_usd
            return known(
                conversation=each.conversation_id,
                turns=len(each.turns),
                latest_run=each.turns[-1],
                latest=None if each.last is None else each.last.isoformat(timespec="seconds"),
                outcomes=each.outcomes,
                agents=each.agents,
                seconds=each.duration_seconds,
                tokens=each.total_tokens,
                cost_usd=cost if cost is None or not each.cost_is_lower_bound else f"at least {cost}",
                tags=each.tags,
            )

        items = list(enumerate(found, 1))[start:]
        return {"total": len(found), **page(items, line, limit, "conversations", lambda item: item[0])}

    def stats(
        self,
        by: Annotated[
            str, Field(description="agent, model, tool, hour, day, or tag:NAME for the values of a tag.")
        ] = "agent",
        agent: Agent = None,
        model: Model = None,
        outcome: Outcome = None,
        tag: Tag = None,
        since: Since = None,
        until: Until = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Answer:
        """Sum up runs: how many, how they ended, tokens, cost, and how long they took."""
        name = by.removeprefix("tag:")
        if by not in ("agent", "model", "tool", "hour", "day") and (name == by or not name):
            raise ConfigurationError(f"by {by!r}: choose from agent, model, tool, hour, day, tag:NAME")
        where = filter_of(agent, model, None, outcome, tag, None, since, until, None, None)
        found = log.statistics(self._paths, where, tags=[name] if name != by else [])
        groups = found.by_tag[name] if name != by else getattr(found, f"by_{by}")
        items = list(enumerate(groups, 1))[number(cursor) :]
        rest = page(items, lambda item: group_line(item[1]), limit, "groups", lambda item: item[0])
        return {"total": group_line(found.total), **rest}

    def errors(
        self,
        agent: Agent = None,
        model: Model = None,
        tool: Tool = None,
        tag: Tag = None,
        since: Since = None,
        until: Until = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> Answer:
        """Errors grouped by type, place and message, with counts, first and last seen, and a run to open."""
        where = filter_of(agent, model, tool, None, tag, None, since, until, None, None)
        groups = log.errors(self._paths, where)
        items = list(enumerate(groups, 1))[number(cursor) :]
        return {
            "total": len(groups),
            **page(items, lambda item: self._error_line(item[1]), limit, "errors", lambda item: item[0]),
        }

    def _error_line(self, group: log.ErrorGroup) -> Answer:
        shown = self._policy.mode in ("full", "truncated")
        return known(
            exception=group.exception_type,
            where=group.where,
            place=group.place,
            tool=group.tool_name,
            message=shortened(group.message, self._policy.limit or TEXT) if shown else None,
            count=group.count,
            runs=group.runs,
            agents=group.agents,
            first=group.first.isoformat(timespec="seconds"),
            last=group.last.isoformat(timespec="seconds"),
            last_run=group.last_run_id,
        )

    def search(
        self,
        text: Annotated[str, Field(description="What to look for.")],
        regex: Annotated[bool, Field(description="text is a regular expression of Python's.")] = False,
        ignore_case: bool = True,
        agent: Agent = None,
        model: Model = None,
        tool: Tool = None,
        outcome: Outcome = None,
        tag: Tag = None,
        since: Since = None,
        until: Until = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> Answer:
        """Find a text in prompts, answers, thoughts, tool names, arguments, results and errors, newest runs first."""
        start = number(cursor)
        deadline = time.monotonic() + SEARCH_SECONDS
        hits = log.search(
            self._paths,
            text,
            regex=regex,
            ignore_case=ignore_case,
            where=filter_of(agent, model, tool, outcome, tag, None, since, until, None, None),
            newest_first=True,
            deadline=deadline,
        )

        def line(item: tuple[int, log.Hit]) -> Answer:
            hit = item[1]
            return known(
                run=hit.run_id,
                agent=hit.agent_name,
                seq=hit.seq,
                event=hit.event_type,
                name=hit.name,
                where=hit.where,
                excerpt=hit.excerpt,
            )

        items = enumerate(itertools.islice(hits, start, start + limit + 1), start + 1)
        found = page(items, line, limit, "hits", lambda item: item[0])
        if time.monotonic() > deadline:
            found["note"] = f"stopped after {SEARCH_SECONDS:.0f} s: there may be more; narrow it with since or agent"
        return found
