"""Parameters that several tools share, with the descriptions that a coding agent reads."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sidestream.log import Filter

Run = Annotated[str, Field(description="Id of a run, or its first or last characters.")]
Cursor = Annotated[str | None, Field(description="next_cursor of the previous answer, for the next page.")]
Limit = Annotated[int, Field(ge=1, le=200, description="Maximum items on a page.")]


class RunFilters(BaseModel):
    """Filters of runs: a run passes if it passes each filter that is given."""

    model_config = ConfigDict(extra="forbid")

    agent: str | None = Field(default=None, description="Name of the agent; * and ? match any characters and any one.")
    model: str | None = Field(default=None, description="Name of a model that the run requested; * and ? as for agent.")
    tool: str | None = Field(default=None, description="Name of a tool that the run called; * and ? as for agent.")
    outcome: str | None = Field(
        default=None, description="completed, error, cancelled, timed_out, abandoned, lost or running."
    )
    tag: str | None = Field(default=None, description="name=value, or name for any value.")
    conversation: str | None = Field(default=None, description="Id of a conversation.")
    since: str | None = Field(default=None, description="Earliest start: 30m, 2h, 7d, today, 2026-11-20T09:30.")
    until: str | None = Field(default=None, description="Latest start (exclusive), written as since.")
    min_cost: float | None = Field(default=None, description="Least cost in US dollars, sub-agents included.")
    slower: str | None = Field(default=None, description="Least duration: 500ms, 30s, 2m.")
    attempts_of: str | None = Field(
        default=None, description="Id of a run: the run itself and every other attempt at its task."
    )
    min_attempt: int | None = Field(
        default=None, ge=1, description="Least number of the attempt: 2 for repeated attempts."
    )
    score: str | None = Field(
        default=None, description="Latest score of a name: quality<0.5, verdict=pass, or quality for any."
    )


Where = Annotated[RunFilters | None, Field(description="Filters: the runs that pass all of them. Default: all runs.")]


def filter_of(where: RunFilters | None) -> Filter:
    """`Filter` from the filters of a tool. Raises `ConfigurationError` for an invalid value."""
    if where is None:
        return Filter()

    def given(value: str | None) -> list[str]:
        return [value] if value else []

    return Filter.parse(
        since=where.since or None,
        until=where.until or None,
        agents=given(where.agent),
        models=given(where.model),
        outcomes=given(where.outcome),
        tags=given(where.tag),
        conversations=given(where.conversation),
        tools=given(where.tool),
        min_cost=where.min_cost,
        slower=where.slower or None,
        attempts_of=given(where.attempts_of),
        min_attempt=where.min_attempt,
        scores=given(where.score),
    )
