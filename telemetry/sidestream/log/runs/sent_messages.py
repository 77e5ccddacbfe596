"""Complete messages of a request, assembled from the request itself, earlier requests, and other runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from sidestream.errors import ConfigurationError
from sidestream.events import History, Json
from sidestream.log.files import Paths

from .loading import find_run
from .sent import SentMessage
from .tree import Part, RunLog, Sent, Step

Load: TypeAlias = Callable[[str], RunLog | None]
"""Loads a run by its id; returns None if the log does not hold the run."""

_PART_KINDS = {"text": "text", "thinking": "thinking", "tool_call": "tool-call"}


def sent_messages(run: RunLog, request: int, paths: Paths = "runs/") -> list[SentMessage]:
    """All messages of a request of `run`, including the history.

    Args:
        run: the run, from `load_run`.
        request: number of the request: 1 for the first.
        paths: the log that holds the earlier runs whose messages are the history.

    Raises `ConfigurationError` if the run has no such request. A message that the log does not hold is returned with
    `kind` `missing` and the `run_id` of its run.
    """
    messages = Conversations(run, lambda run_id: find_run(paths, run_id)).messages(run.summary.run_id, request)
    if messages is None:
        raise ConfigurationError(f"run {run.summary.run_id} has no request {request} in this log")
    return messages


class Conversations:
    """Message lists of a run and of the runs it refers to, each assembled once."""

    def __init__(self, run: RunLog, load: Load) -> None:
        self._load = load
        self._runs: dict[str, RunLog | None] = {each.summary.run_id: each for each in run.runs()}
        self._lists: dict[tuple[str, int], list[SentMessage]] = {}

    def messages(self, run_id: str, request: int) -> list[SentMessage] | None:
        """Messages of a request; None if the log does not hold the request."""
        if self._step(run_id, request) is None:
            return None
        todo = [(run_id, request)]
        opened = set[tuple[str, int]]()
        while todo:  # a stack instead of recursion: a conversation of many runs would exceed the recursion limit
            wanted = todo[-1]
            opened.add(wanted)
            step = self._step(*wanted)
            if wanted in self._lists or step is None or step.sent is None:
                self._lists.setdefault(wanted, [])
                todo.pop()
                continue
            needed = [(each.run_id or wanted[0], each.request) for each in step.sent.history]
            # `opened` ends a cycle
            missing = [each for each in needed if each not in self._lists and each not in opened]
            if missing:
                todo += missing
                continue
            self._lists[wanted] = self._joined(wanted[0], step.sent)
            todo.pop()
        return self._lists[run_id, request]

    def _step(self, run_id: str, request: int) -> Step | None:
        if run_id not in self._runs:
            self._runs[run_id] = self._load(run_id)
        run = self._runs[run_id]
        return None if run is None else request_of(run, request)

    def _joined(self, run_id: str, sent: Sent) -> list[SentMessage]:
        messages: list[SentMessage] = []
        new = iter(sent.new)
        for each in sent.history:
            while len(messages) < (each.at or 0):
                messages.append(next(new, {"kind": "missing", "run_id": run_id}))
            messages += self._stretch(each.run_id or run_id, each)
        return [*messages, *new]

    def _stretch(self, run_id: str, history: History) -> Iterator[SentMessage]:
        """Messages of the run `run_id` to which `history` refers."""
        step = self._step(run_id, history.request)
        listed = [*self._lists.get((run_id, history.request), []), *([] if step is None else [answer_of(step)])]
        for index in range(history.start or 0, (history.start or 0) + history.count):
            yield listed[index] if index < len(listed) else {"kind": "missing", "run_id": run_id}


def request_of(run: RunLog, request: int) -> Step | None:
    """Step of a request of `run`; None if not in the log."""
    return next((step for step in run.steps if step.kind == "request" and step.request == request), None)


def answer_of(step: Step) -> SentMessage:
    """Answer to a request, as a message."""
    parts = sorted(step.parts, key=lambda part: part.index or 0)
    return {"kind": "response", "parts": [_part(part) | step.part_details.get(part.index or 0, {}) for part in parts]}


def _part(part: Part) -> dict[str, Json]:
    kind = _PART_KINDS.get(part.kind, part.part_kind or part.kind)
    named = {"tool_name": part.tool_name, "tool_call_id": part.tool_call_id}
    names = {name: value for name, value in named.items() if value is not None}
    content = part.text if part.kind != "other" else part.whole
    if content is None:
        return {"part_kind": kind, **names}
    return {"part_kind": kind, **names, "args" if kind.endswith("tool-call") else "content": content}
