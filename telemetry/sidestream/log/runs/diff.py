"""Comparison of two runs: steps, prompts, tools, tokens, time and cost."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Literal

import msgspec

from sidestream.events import Json

from .tree import RunLog, Step


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Difference between two runs or steps. None if a side lacks the value."""

    what: str
    a: Json
    b: Json

    @property
    def difference(self) -> float | None:
        """`b` minus `a`, if both are numbers."""
        if isinstance(self.a, int | float) and isinstance(self.b, int | float):
            return self.b - self.a
        return None


class StepDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Step of one run, paired with the corresponding step of the other."""

    status: Literal["same", "changed", "only_a", "only_b"]
    """`changed`: values other than times, tokens and cost differ."""
    depth: int
    a: Step | None = None
    b: Step | None = None
    changes: list[Change] = []
    """Differences, including times, tokens and cost, so that a `same` step may have some."""


class RunDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Differences between the runs `a` and `b`."""

    a: RunLog
    b: RunLog
    facts: list[Change]
    """Differences of the runs as a whole."""
    steps: list[StepDiff]
    """Steps of both runs, paired, in order."""

    @property
    def same(self) -> bool:
        """Whether both runs did the same, apart from times, ids, tokens and cost."""
        return all(step.status == "same" for step in self.steps) and not any(
            change.what in ("agent_name", "model", "outcome", "prompt", "output") for change in self.facts
        )


FACTS = (
    "agent_name",
    "outcome",
    "model",
    "exception_type",
    "requests",
    "tool_calls",
    "retries",
    "sub_agents",
    "total_tokens",
    "cost_usd",
    "cost_usd_with_children",
    "duration_seconds",
    "time_to_first_token_seconds",
)
_MEANS_CHANGED = ("outcome", "input", "output", "error", "answer", "provider", "finish_reason", "exception_type")
_MEASURED = ("duration_seconds", "time_to_first_token_seconds", "cost_usd")


def diff(a: RunLog, b: RunLog) -> RunDiff:
    """Compare two runs from `load_run`. Steps are paired by kind and name, in order."""
    facts = [
        Change(what=name, a=getattr(a.summary, name), b=getattr(b.summary, name))
        for name in FACTS
        if getattr(a.summary, name) != getattr(b.summary, name)
    ]
    facts += [
        Change(what=name, a=getattr(a, name), b=getattr(b, name))
        for name in ("prompt", "output")
        if getattr(a, name) != getattr(b, name)
    ]
    if a.summary.tags != b.summary.tags:
        facts.append(Change(what="tags", a=a.summary.tags, b=b.summary.tags))
    return RunDiff(a=a, b=b, facts=facts, steps=list(_pairs(a, b)))


def _pairs(a: RunLog, b: RunLog) -> Iterator[StepDiff]:
    steps_a, steps_b = ([(depth, step) for depth, _, step in run.walk()] for run in (a, b))
    keys_a, keys_b = ([(depth, step.kind, step.name) for depth, step in steps] for steps in (steps_a, steps_b))
    for tag, a1, a2, b1, b2 in SequenceMatcher(None, keys_a, keys_b, autojunk=False).get_opcodes():
        if tag == "equal":
            for (depth, left), (_, right) in zip(steps_a[a1:a2], steps_b[b1:b2], strict=True):
                changes = list(_changes(left, right))
                changed = any(change.what in _MEANS_CHANGED for change in changes)
                yield StepDiff(status="changed" if changed else "same", depth=depth, a=left, b=right, changes=changes)
        else:
            yield from (StepDiff(status="only_a", depth=depth, a=step) for depth, step in steps_a[a1:a2])
            yield from (StepDiff(status="only_b", depth=depth, b=step) for depth, step in steps_b[b1:b2])


def _changes(a: Step, b: Step) -> Iterator[Change]:
    for name in ("outcome", "provider", "finish_reason", "exception_type", "input", "output", "error"):
        if getattr(a, name) != getattr(b, name):
            yield Change(what=name, a=getattr(a, name), b=getattr(b, name))
    answers = [[[part.kind, part.tool_name, part.text] for part in step.parts] for step in (a, b)]
    if answers[0] != answers[1]:
        yield Change(what="answer", a=_answer(a), b=_answer(b))
    for name in _MEASURED:
        if getattr(a, name) != getattr(b, name):
            yield Change(what=name, a=getattr(a, name), b=getattr(b, name))
    for name in ("input_tokens", "output_tokens"):
        left, right = (step.usage.get(name) if step.usage else None for step in (a, b))
        if left != right:
            yield Change(what=name, a=left, b=right)


def _answer(step: Step) -> str:
    """Answer to a request as one text."""
    return "\n".join(
        f"{part.tool_name}({part.text or ''})" if part.kind == "tool_call" else (part.text or "") for part in step.parts
    )
