"""Loading of one run from a log as a tree of steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, cast

from sidestream.errors import ConfigurationError
from sidestream.events import (
    AgentEnd,
    AgentStart,
    AnyEvent,
    Custom,
    Error,
    FinalResult,
    Json,
    LLMChunk,
    LLMEnd,
    LLMStart,
    Retry,
    Score,
    ScoreEvent,
    ToolEnd,
    ToolStart,
    is_lower_bound,
    split_pieces,
)
from sidestream.log.files import Paths
from sidestream.log.index.parts import UNKNOWN_MODEL, as_utc
from sidestream.log.open_store import store_of
from sidestream.log.sequence import is_next_piece

from .sent import details_of, sent_of
from .summary import RunSummary
from .tree import Delta, Located, Part, RunLog, Step


def load_run(paths: Paths, run_id: str, *, change: Callable[[AnyEvent], AnyEvent] | None = None) -> RunLog:
    """Load the run `run_id`, or the only run whose id begins with it, with its sub-agents.

    Args:
        paths: folders, files or globs, as for `log_files`.
        run_id: the id, or its beginning.
        change: applied to each event first, for example to remove content.

    Raises `ConfigurationError` if no run or several runs match `run_id`, or if a path does not exist.
    """
    store = store_of(paths)
    found = {summary.run_id: summary for summary in store.tree(run_id)} if run_id else {}
    wanted = _resolve(run_id, sorted(each for each in found if each.startswith(run_id)))
    children: dict[str, list[str]] = defaultdict(list)
    for summary in found.values():
        if summary.parent_run_id is not None:
            children[summary.parent_run_id].append(summary.run_id)
    family = _descendants(wanted, children) & found.keys()
    events = _events(store.located(family))
    if change is not None:
        for located in events.values():
            located[:] = [Located(change(its.event), its.file, its.line) for its in located]
    logs = {each: build(found[each], events[each]) for each in family}
    return _joined(wanted, logs, children)


def find_run(paths: Paths, run_id: str, *, change: Callable[[AnyEvent], AnyEvent] | None = None) -> RunLog | None:
    """`load_run`, or None if the log does not hold the run."""
    try:
        return load_run(paths, run_id, change=change)
    except ConfigurationError:
        return None


def _resolve(given: str, ids: list[str]) -> str:
    if given in ids:
        return given
    if not ids:
        raise ConfigurationError(f"no run {given!r} in this log: `sidestream runs` lists those that are there")
    if len(ids) > 1:
        some = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
        raise ConfigurationError(f"run {given!r} could be any of {len(ids)}: {some}")
    return ids[0]


def _descendants(root: str, children: dict[str, list[str]]) -> set[str]:
    family: set[str] = set()
    todo = [root]
    while todo:
        each = todo.pop()
        if each not in family:
            family.add(each)
            todo += children.get(each, [])
    return family


def _events(every: Iterable[Located]) -> dict[str, list[Located]]:
    """Events of each run in order of `seq`, without duplicates."""
    found: dict[str, list[Located]] = defaultdict(list)
    seen: dict[str, dict[int, Located]] = defaultdict(dict)
    for located in every:
        event = located.event
        first = seen[event.run_id].setdefault(event.seq, located)
        if first is located or _is_next_piece(found[event.run_id][-1], located):
            found[event.run_id].append(located)
    for events in found.values():
        events.sort(key=lambda each: each.event.seq)
    return found


def _is_next_piece(before: Located, here: Located) -> bool:
    """Whether `here` is another piece of the chunk `before`, and not a duplicate."""
    a, b = before.event, here.event
    last_chunk = a.seq if before.file == here.file and isinstance(a.data, LLMChunk) else -1
    return (
        isinstance(b.data, LLMChunk)
        and is_next_piece(b.seq, is_chunk=True, last_chunk=last_chunk)
        and (a.offset != b.offset or len(b.data.lengths or ()) == 1)
    )


# --- from events to steps ------------------------------------------------------------------------------------------


def build(summary: RunSummary, events: Iterable[Located]) -> RunLog:
    """Tree of one run, without its sub-agents, from its events in order of `seq`."""
    builder = _Builder(RunLog(summary=summary))
    for located in events:
        builder.log.events.append(located)
        builder.note(located.event)
    builder.log.scores.sort(key=lambda event: (as_utc(event.timestamp), event.seq))
    return builder.log


class _Builder:
    def __init__(self, log: RunLog) -> None:
        self.log = log
        self.requests: dict[int | None, Step] = {}
        self.parts: dict[tuple[int | None, int | None], Part] = {}
        self.tools: dict[tuple[str | None, str], list[Step]] = defaultdict(list)
        self.ended: set[int] = set()
        self.results: dict[str, Json] = {}
        """Results of tools, by tool call id."""

    def note(self, event: AnyEvent) -> None:
        data: Any = event.data
        match data:
            case AgentStart():
                self.log.prompt = data.prompt
            case LLMStart():
                self.requests[data.request] = self._step(
                    event,
                    kind="request",
                    name=data.model,
                    request=data.request,
                    provider=data.provider,
                    streaming=data.streaming,
                    input=data.instructions,
                    sent=sent_of(data, self.log.prompt, self.results),
                )
            case LLMChunk():
                self._chunk(event, data)
            case LLMEnd():
                self._request_end(event, data)
            case ToolStart():
                step = self._step(event, kind="tool", name=data.tool_name, tool_call_id=data.tool_call_id)
                step.input, step.attempt = data.args, data.attempt
                self.tools[data.tool_call_id, data.tool_name].append(step)
            case ToolEnd():
                self._tool_end(event, data)
            case Retry():
                step = self._step(event, kind="retry", name=data.cause, within=self._tool(data))
                step.attempt, step.output, step.tool_call_id = data.attempt, data.message, data.tool_call_id
            case Error():
                within = self._tool(data) if data.where == "tool" else self.requests.get(data.request or -1)
                step = self._step(event, kind="error", name=data.exception_type or "error", within=within)
                step.where, step.error, step.exception_type = data.where, data.error, data.exception_type
                for each in (step, within):
                    if each is not None:
                        each.frames, each.chain = data.frames or [], data.chain or []
            case Custom():
                step = self._step(event, kind="custom", name=data.name, within=self._tool(data))
                step.output, step.tool_call_id = data.payload, data.tool_call_id
            case Score():
                self.log.scores.append(cast(ScoreEvent, event))
            case FinalResult():
                self.log.output = data.output
                self._step(event, kind="final_result", name=data.output_type or "output").output = data.output
            case AgentEnd() | _:
                pass

    def _step(self, event: AnyEvent, *, within: Step | None = None, start: float | None = None, **facts: Any) -> Step:
        step = Step(seq=event.seq, start=event.offset if start is None else start, **facts)
        siblings = self.log.steps if within is None else within.children
        siblings.append(step)
        return step

    def _tool(self, data: Retry | Error | Custom) -> Step | None:
        """Tool call that `data` belongs to; None if its start is not in the log."""
        if data.tool_call_id is None or data.tool_name is None:
            return None
        steps = self.tools.get((data.tool_call_id, data.tool_name))
        return steps[-1] if steps else None

    def _chunk(self, event: AnyEvent, data: LLMChunk) -> None:
        step = self.requests.get(data.request)
        if step is None:
            name = self.log.summary.model or "model"
            step = self._step(event, kind="request", name=name, request=data.request)
            self.requests[data.request] = step
        part = self.parts.get((data.request, data.part))
        if part is None:
            part = Part(index=data.part, kind=data.kind, part_kind=data.part_kind)
            self.parts[data.request, data.part] = part
            step.parts.append(part)
        if step.time_to_first_token_seconds is None and data.text:  # an estimate, until `llm_end` has the exact time
            step.time_to_first_token_seconds = max(0.0, event.offset - step.start)
        part.tool_name = part.tool_name or data.tool_name
        part.tool_call_id = part.tool_call_id or data.tool_call_id
        part.deltas += _deltas(event.offset, data)
        if isinstance(data.text, str):
            part.text = (part.text or "") + data.text
        if data.kind == "other":
            part.whole = data.text if not isinstance(data.text, str) else part.text

    def _request_end(self, event: AnyEvent, data: LLMEnd) -> None:
        step = self.requests.get(data.request)
        if step is None:
            start = max(0.0, event.offset - data.duration_seconds)
            step = self._step(event, kind="request", name=data.model or "model", start=start, request=data.request)
            self.requests[data.request] = step
        step.duration_seconds, step.outcome = data.duration_seconds, data.outcome
        step.provider = data.provider or step.provider
        if step.name == UNKNOWN_MODEL:
            step.name = data.response_model or step.name
        step.finish_reason, step.usage = data.finish_reason, data.usage
        step.cost_usd, step.unpriced = data.cost_usd, bool(data.unpriced)
        step.usage_is_lower_bound, step.cost_is_lower_bound = (
            is_lower_bound(data, "usage"),
            is_lower_bound(data, "cost"),
        )
        step.time_to_first_token_seconds = min((data.time_to_first_token_seconds or {}).values(), default=None)
        step.exception_type, step.error = data.exception_type, data.error
        step.part_details = details_of(data)

    def _tool_end(self, event: AnyEvent, data: ToolEnd) -> None:
        open_ones = [step for step in self.tools[data.tool_call_id, data.tool_name] if step.seq not in self.ended]
        if open_ones:
            step = open_ones[0]
        else:
            start = max(0.0, event.offset - (data.duration_seconds or 0.0))
            step = self._step(event, kind="tool", name=data.tool_name, start=start, tool_call_id=data.tool_call_id)
            self.tools[data.tool_call_id, data.tool_name].append(step)
        self.ended.add(step.seq)
        if data.tool_call_id is not None:
            self.results[data.tool_call_id] = data.result
        step.duration_seconds, step.outcome = data.duration_seconds, data.outcome
        step.output, step.error, step.exception_type = data.result, data.error, data.exception_type


def _deltas(offset: float, data: LLMChunk) -> list[Delta]:
    after = data.offsets_us
    text = data.text if isinstance(data.text, str) else None
    if text is None:
        return [Delta(round(offset + us / 1e6, 6), None) for us in after or [0]]
    if after and data.lengths and len(after) == len(data.lengths) and sum(data.lengths) == len(text):
        pieces = split_pieces(text, data.lengths)
        return [Delta(round(offset + us / 1e6, 6), piece) for us, piece in zip(after, pieces, strict=True)]
    return [Delta(offset, text)]


# --- from runs to a tree of runs -----------------------------------------------------------------------------------


def _joined(root: str, logs: dict[str, RunLog], children: dict[str, list[str]]) -> RunLog:
    """Run `root`, with each sub-agent's run attached to the step that started it."""
    todo = [logs[root]]
    joined = {root}
    while todo:
        parent = todo.pop()
        for run_id in sorted(children.get(parent.summary.run_id, []), key=lambda each: _started(logs[each])):
            if run_id in joined:
                continue  # a cycle: only in a log that another writer has damaged
            joined.add(run_id)
            child = logs[run_id]
            _hang(parent, child)
            todo.append(child)
    for log in logs.values():
        log.steps.sort(key=lambda step: step.start)
    return logs[root]


def _started(log: RunLog) -> float:
    started: datetime | None = log.summary.started
    return started.timestamp() if started is not None else 0.0


def _hang(parent: RunLog, child: RunLog) -> None:
    summary = child.summary
    start = max(0.0, _started(child) - _started(parent))
    within = None
    for step in parent.steps:
        if step.kind == "tool" and step.tool_call_id is not None and step.tool_call_id == summary.parent_tool_call_id:
            within = step
    if within is not None:
        # The wall clock may have been changed: a sub-agent never starts outside the tool call that contains it.
        start = max(start, within.start)
        if within.duration_seconds is not None:
            start = min(start, within.start + within.duration_seconds)
    child.start = parent.start + start
    step = Step(
        kind="run",
        name=summary.agent_name or "agent",
        seq=0,
        start=start,
        duration_seconds=summary.duration_seconds,
        outcome=summary.outcome,
        usage=summary.usage_with_children or summary.usage,
        cost_usd=summary.cost_usd_with_children if summary.cost_usd_with_children is not None else summary.cost_usd,
        unpriced=summary.unpriced_requests > 0,
        usage_is_lower_bound=summary.is_lower_bound("usage", with_children=True),
        cost_is_lower_bound=summary.is_lower_bound("cost", with_children=True),
        exception_type=summary.exception_type,
        input=child.prompt,
        output=child.output,
        run=child,
    )
    (parent.steps if within is None else within.children).append(step)
