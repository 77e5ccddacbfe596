"""Tools that list, search and sum up runs and conversations."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from sidestream import log
from sidestream.errors import ConfigurationError
from sidestream.log import Filter, Order
from sidestream.log.open_store import store_of
from sidestream.log.runs.conversations import conversation_page
from sidestream.log.store import RunStore
from sidestream.recording.content import ContentPolicy

from .answers import TEXT, Answer, bounded, group_line, known, moment, number, numbered_page, page, run_line, shortened
from .parameters import Cursor, Limit, Where, filter_of

SEARCH_SECONDS = 20.0
"""Seconds after which a search returns the hits so far."""
_SEARCHED = 500  # runs read at a time to find the run of a cursor that has moved


class ListTools:
    """Tools over many runs of one log."""

    def __init__(self, paths: Sequence[str], policy: ContentPolicy) -> None:
        self._paths = list(paths)
        self._policy = policy

    def list_runs(
        self,
        where: Where = None,
        sort: Annotated[
            str, Field(description="started, duration, cost, tokens or first_token, largest first; -cost: smallest.")
        ] = "started",
        sub_agents: Annotated[bool, Field(description="List the runs of sub-agents as well.")] = False,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> Answer:
        """List runs of agents with outcome, tokens and cost, the newest first unless sorted otherwise."""
        order = Order.parse(sort)
        narrowed = filter_of(where) if sub_agents else replace(filter_of(where), outermost=True)
        store = store_of(self._paths)
        first = 0 if cursor is None else _place_after(store, narrowed, order, cursor)
        found = store.page(narrowed, order, limit=limit + 1, offset=first)
        numbered = enumerate(found.runs, first + 1)
        rest = page(numbered, lambda item: run_line(item[1]), limit, "runs", lambda item: f"{item[0]}:{item[1].run_id}")
        return {"total": found.total, **rest}

    def conversations(
        self,
        where: Where = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> Answer:
        """List conversations (runs with the same conversation id), the one with the latest turn first."""
        first = number(cursor)
        found = conversation_page(self._paths, filter_of(where), limit=limit + 1, offset=first)

        def line(each: log.Conversation) -> Answer:
            return known(
                conversation=each.conversation_id,
                turns=len(each.turns),
                latest_run=each.turns[-1],
                latest=moment(each.last),
                outcomes=each.outcomes,
                agents=each.agents,
                seconds=each.duration_seconds,
                tokens=each.total_tokens,
                cost_usd=bounded(each.cost_usd, each.cost_is_lower_bound),
                tags=each.tags,
            )

        numbered = enumerate(found.conversations, first + 1)
        rest = page(numbered, lambda item: line(item[1]), limit, "conversations", lambda item: item[0])
        return {"total": found.total, **rest}

    def stats(
        self,
        by: Annotated[
            str, Field(description="agent, model, tool, hour, day, attempt, or tag:NAME for the values of a tag.")
        ] = "agent",
        where: Where = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Answer:
        """Sum up runs: count, outcomes, tokens, cost and durations."""
        name = by.removeprefix("tag:")
        if by not in ("agent", "model", "tool", "hour", "day", "attempt") and (name == by or not name):
            raise ConfigurationError(f"by {by!r}: choose from agent, model, tool, hour, day, attempt, tag:NAME")
        found = log.statistics(self._paths, filter_of(where), tags=[name] if name != by else [])
        groups = found.by_tag[name] if name != by else getattr(found, f"by_{by}")
        return {"total": group_line(found.total), **numbered_page(groups, group_line, limit, "groups", cursor)}

    def errors(
        self,
        where: Where = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> Answer:
        """Group errors by type, place and message, with counts, first and last time, and the latest run."""
        groups = log.errors(self._paths, filter_of(where))
        return {"total": len(groups), **numbered_page(groups, self._error_line, limit, "errors", cursor)}

    def _error_line(self, group: log.ErrorGroup) -> Answer:
        shown, differs = self._policy.mode in ("full", "truncated"), group.last_message != group.message
        return known(
            exception=group.exception_type,
            where=group.where,
            place=group.place,
            tool=group.tool_name,
            message=shortened(group.message, self._policy.limit or TEXT) if shown else None,
            last_message=shortened(group.last_message, self._policy.limit or TEXT) if shown and differs else None,
            count=group.count,
            runs=group.runs,
            agents=group.agents,
            first=moment(group.first),
            last=moment(group.last),
            last_run=group.last_run_id,
        )

    def search(
        self,
        text: Annotated[str, Field(description="Text to find.")],
        regex: Annotated[bool, Field(description="Whether text is a Python regular expression.")] = False,
        ignore_case: bool = True,
        where: Where = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> Answer:
        """Find a text in prompts, answers, thinking, tool names, arguments, results and errors, newest runs first."""
        deadline = time.monotonic() + SEARCH_SECONDS
        hits = log.search(
            self._paths,
            text,
            regex=regex,
            ignore_case=ignore_case,
            where=filter_of(where),
            newest_first=True,
            deadline=deadline,
        )

        def line(hit: log.Hit) -> Answer:
            return known(
                run=hit.run_id,
                agent=hit.agent_name,
                seq=hit.seq,
                event=hit.event_type,
                name=hit.name,
                where=hit.where,
                excerpt=hit.excerpt,
            )

        found = numbered_page(hits, line, limit, "hits", cursor)
        if time.monotonic() > deadline:
            found["note"] = f"stopped after {SEARCH_SECONDS:.0f} s: there may be more; narrow it with since or agent"
        return found


def _place_after(store: RunStore, where: Filter, order: Order, cursor: str) -> int:
    """Number of runs up to the one that `cursor` names as `NUMBER:RUN`, wherever it is in the list by now.

    Raises `ConfigurationError` if the list no longer has that run.
    """
    number, _, run_id = cursor.partition(":")
    if number.isdecimal() and len(number) <= 12 and int(number):
        known = store.page(where, order, limit=1, offset=int(number) - 1).runs
        if [run.run_id for run in known] == [run_id]:
            return int(number)
        offset = 0
        while found := store.page(where, order, limit=_SEARCHED, offset=offset).runs:
            for place, run in enumerate(found, offset + 1):
                if run.run_id == run_id:
                    return place
            offset += len(found)
    raise ConfigurationError(f"cursor {cursor!r}: the list no longer has this run; start again without a cursor")
