"""Logged runs, assigned to the repeated runs that are answered from them."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sidestream.errors import ConfigurationError
from sidestream.events import Json, LLMEnd, Retry, ToolEnd
from sidestream.log import RunLog, SentMessage, Step, load_run, runs
from sidestream.log.files import Paths
from sidestream.log.runs.loading import find_run
from sidestream.log.runs.naming import named_run
from sidestream.log.runs.sent_messages import Conversations, request_of
from sidestream.log.runs.tree import Part
from sidestream.terminal.numbers import counted

from .differences import RequestDiffers


class LoggedRun:
    """Logged run, consumed request by request."""

    def __init__(self, log: RunLog, conversations: Conversations) -> None:
        self.log = log
        self._conversations = conversations
        self._number = 0
        self.system_prompts: str | None = None
        """System prompts of the repeated run; None before its first request."""
        self._ends = {
            event.event.data.request: event.event.data for event in log.events if isinstance(event.event.data, LLMEnd)
        }

    @property
    def name(self) -> str:
        """Name of the run in error messages."""
        return f"run {self.log.summary.run_id}"

    def next_request(self) -> LoggedRequest:
        """Next logged request. Raises `RequestDiffers` after the last one."""
        self._number += 1
        step = request_of(self.log, self._number)
        if step is None:
            raise RequestDiffers(
                f"{self.name} has {counted(self._number - 1, 'request')} in the log and ended as "
                f"{self.log.summary.outcome}; this run makes another request"
            )
        return LoggedRequest(self, step, self._ends.get(self._number))

    def messages(self, request: int) -> list[SentMessage]:
        """Messages that the logged request sent, history included."""
        return self._conversations.messages(self.log.summary.run_id, request) or []

    def in_force(self, request: int, name: str) -> Json:
        """Value of the field `name` of the sent request: of `request`, else of the last earlier one that logged it."""
        latest: Json = None
        for step in self.log.steps:
            if step.kind == "request" and step.sent is not None and (step.request or 0) <= request:
                value = getattr(step.sent, name)
                latest = value if value is not None else latest
        return latest

    def tool_end(self, tool_call_id: str) -> ToolEnd | None:
        """End of a tool call; None if the log has none."""
        ends = [event.event.data for event in self.log.events if isinstance(event.event.data, ToolEnd)]
        return next((end for end in ends if end.tool_call_id == tool_call_id), None)

    def has_failed_call(self) -> bool:
        """Whether a tool call of the run failed."""
        return any(
            isinstance(each.event.data, ToolEnd) and each.event.data.outcome == "failed" for each in self.log.events
        )

    def retry_of(self, tool_call_id: str) -> str | None:
        """Retry message that the model got for a tool call; None without one."""
        retries = [event.event.data for event in self.log.events if isinstance(event.event.data, Retry)]
        messages = [each.message for each in retries if each.tool_call_id == tool_call_id]
        return messages[0] if messages and isinstance(messages[0], str) else None


class LoggedRequest:
    """Logged request with its response."""

    def __init__(self, run: LoggedRun, step: Step, end: LLMEnd | None) -> None:
        self.run = run
        self.step = step
        self.end = end
        self.number = step.request or 0

    def pieces(self) -> list[tuple[float, Piece]]:
        """Deltas of the response in order of arrival, each with its seconds since the start of the request."""
        found: list[tuple[float, int, int, Piece]] = []
        for place, part in enumerate(self.step.parts):
            deltas = part.deltas[:1] if is_hidden(part) else part.deltas
            for number, delta in enumerate(deltas):
                piece = Piece(place, part, delta.text or "", number == 0, number == len(deltas) - 1)
                found.append((delta.at, place, number, piece))
        found.sort(key=lambda each: each[:3])
        return [(at - self.step.start, piece) for at, _, _, piece in found]

    def begins_empty(self) -> frozenset[int]:
        """Indexes of the parts whose start event had no text.

        The log counts such events, but does not record their parts: the likeliest parts are chosen.
        """
        parts = self.step.parts
        recorded = sum(1 if part.kind == "other" or is_hidden(part) else len(part.deltas) for part in parts)
        spare = (self.end.chunks or 0 if self.end else 0) - recorded
        likely = {"compaction": 0, "tool_call": 1}
        order = sorted(range(len(parts)), key=lambda at: (likely.get(parts[at].part_kind or parts[at].kind, 2), at))
        may = [at for at in order if parts[at].kind != "other" or parts[at].part_kind == "compaction"]
        return frozenset([at for at in may if not is_hidden(parts[at])][: max(0, spare)])


@dataclass(frozen=True, slots=True)
class Piece:
    """Delta of a response."""

    place: int
    """Index of the part within the response."""
    part: Part
    text: str
    first: bool
    last: bool


def is_hidden(part: Part) -> bool:
    """Whether the provider hid the text of a thinking part: the log has its duration only."""
    return part.kind == "thinking" and not part.text


class LoggedRuns:
    """Logged runs with their sub-agents, each assigned to one repeated run.

    Args:
        paths: Paths of the log.
        run: Id (or its beginning) of a run; None for all runs.

    Raises:
        ConfigurationError: The log has no runs.
    """

    def __init__(self, paths: Paths, run: str | None) -> None:
        known = runs(paths)
        roots = [each for each in known if each.parent_run_id is None] if run is None else [named_run(run, known)]
        if not roots:
            raise ConfigurationError("this log has no runs to be done again")
        trees = [load_run(paths, each.run_id) for each in roots]
        self._waiting: list[LoggedRun] = []
        for tree in trees:
            conversations = Conversations(tree, lambda run_id: find_run(paths, run_id))
            self._waiting += [LoggedRun(each, conversations) for each in sorted(tree.runs(), key=lambda run: run.start)]
        self._taken: dict[str, LoggedRun] = {}
        self._lock = threading.Lock()
        self.root = self._waiting[0]
        self._alone = len(trees) == 1

    def of(self, run_id: str, agent_name: str | None, prompt: Json) -> LoggedRun:
        """Logged run for the repeated run `run_id`.

        The first unassigned run with an equal agent name and prompt, else with an equal agent name. If the log has a
        single root run, the first repeated run gets it whatever its name. Raises `RequestDiffers` if none is left.
        """
        with self._lock:
            if run_id not in self._taken:
                found = self._best(agent_name, prompt)
                self._waiting.remove(found)
                self._taken[run_id] = found
            return self._taken[run_id]

    def _best(self, agent_name: str | None, prompt: Json) -> LoggedRun:
        if self._alone and self.root in self._waiting:
            return self.root
        same = [each for each in self._waiting if each.log.summary.agent_name == agent_name]
        if not same:
            where = f"{self.root.name} has" if self._alone else "the log has"
            raise RequestDiffers(f"{where} no further run of the agent {agent_name!r}")
        return next((each for each in same if each.log.prompt == prompt), same[0])
