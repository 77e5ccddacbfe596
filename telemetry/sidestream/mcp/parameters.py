"""Parameters that several tools have, as the agent is told of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sidestream.log import Filter

Run = Annotated[str, Field(description="Id of a run, or how it begins or ends.")]
Cursor = Annotated[str | None, Field(description="next_cursor of the answer before, for the next page.")]
Limit = Annotated[int, Field(ge=1, le=200, description="Items of a page.")]
Since = Annotated[str | None, Field(description="Began then or later: 30m, 2h, 7d, today, 2026-11-20T09:30.")]
Until = Annotated[str | None, Field(description="Began before; written as since.")]
Agent = Annotated[str | None, Field(description="Name of the agent; * and ? may be used.")]
Model = Annotated[str | None, Field(description="Name of a model that was asked; * and ? may be used.")]
Tool = Annotated[str | None, Field(description="Name of a tool that was called; * and ? may be used.")]
Outcome = Annotated[
    str | None,
    Field(description="completed, error, cancelled, timed_out, abandoned, lost or running."),
]
Tag = Annotated[str | None, Field(description="name=value, or name for any value.")]
Conversation = Annotated[str | None, Field(description="Id of a conversation.")]


def filter_of(
    agent: str | None,
    model: str | None,
    tool: str | None,
    outcome: str | None,
    tag: str | None,
    conversation: str | None,
    since: str | None,
    until: str | None,
    min_cost: float | None,
    slower: str | None,
    attempts_of: str | None = None,
    min_attempt: int | None = None,
    score: str | None = None,
) -> Filter:
    """The filter of what was given. Raises `ConfigurationError` for what cannot be meant."""

    def given(value: str | None) -> list[str]:
        return [value] if value else []

    return Filter.parse(
        since=since or None,
        until=until or None,
        agents=given(agent),
        models=given(model),
        outcomes=given(outcome),
        tags=given(tag),
        conversations=given(conversation),
        tools=given(tool),
        min_cost=min_cost,
        slower=slower or None,
        attempts_of=given(attempts_of),
        min_attempt=min_attempt,
        scores=given(score),
    )
