"""Errors of a log, grouped by type, place, and message without its varying parts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

import msgspec

from sidestream.events import AnyEvent, Error
from sidestream.events.traceback import place_of
from sidestream.log.files import Paths
from sidestream.log.reader import OnProblem

from .filters import Filter
from .iteration import events

MAX_GROUPS = 10_000
"""Maximum number of groups; all further kinds form one group."""
MAX_MESSAGE = 300
"""Maximum characters of a message that distinguish groups."""
_VARYING = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.I), "<id>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.I), "<address>"),
    (re.compile(r"https?://\S+"), "<url>"),
    (re.compile(r"\b(?=[0-9a-z_-]*\d)(?=[0-9a-z_-]*[a-z])[0-9a-z_-]{12,}\b", re.I), "<id>"),
    (re.compile(r"\d+(?:\.\d+)?"), "<n>"),
)


class ErrorGroup(msgspec.Struct, kw_only=True):
    """Group of errors of one kind."""

    exception_type: str | None
    where: str
    """Failing component: `model`, `tool`, `output` or `run`."""
    place: str | None
    """File and function of the application's own code that raised the error; None if unknown."""
    tool_name: str | None
    message: str
    """Message with `<n>`, `<id>`, `<url>` and `<address>` in place of varying parts."""
    count: int = 0
    runs: int = 0
    agents: list[str] = []
    first: datetime
    last: datetime
    last_run_id: str
    last_message: str | None = None
    """Latest message, unchanged; None if the content policy removed it."""


def normalized(message: str) -> str:
    """`message` with placeholders for numbers, ids, addresses and URLs, which vary between occurrences."""
    text = " ".join(message[: 4 * MAX_MESSAGE].split())
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text[:MAX_MESSAGE]


def errors(
    paths: Paths = "runs/", where: Filter | None = None, *, on_problem: OnProblem | None = None
) -> list[ErrorGroup]:
    """Errors of a log in groups, the group with the latest error first.

    Args:
        paths: folders, files or globs, as for `log_files`.
        where: filter of the runs; None for all.
        on_problem: called for each unreadable line.

    Raises what `read` raises.
    """
    return grouped(events(paths, types={"error"}, where=where, on_problem=on_problem))


def grouped(found: Iterable[AnyEvent]) -> list[ErrorGroup]:
    """Groups of the errors among the events `found`."""
    groups: dict[tuple[str | None, ...], ErrorGroup] = {}
    runs: dict[tuple[str | None, ...], set[str]] = {}
    for event in found:
        data = event.data
        if not isinstance(data, Error):
            continue
        frame = place_of(data.frames or ())
        place = None if frame is None else f"{frame.file} in {frame.function}"
        message = normalized(data.error) if isinstance(data.error, str) else ""
        key = (data.exception_type, data.where, place, data.tool_name, message)
        if key not in groups and len(groups) >= MAX_GROUPS:
            key = (None, data.where, None, None, "other errors")
        group = groups.get(key)
        if group is None:
            group = groups[key] = ErrorGroup(
                exception_type=key[0],
                where=data.where,
                place=key[2],
                tool_name=key[3],
                message=key[4] or "",
                first=event.timestamp,
                last=event.timestamp,
                last_run_id=event.run_id,
            )
        _count(group, event, data)
        runs.setdefault(key, set()).add(event.run_id)
        group.runs = len(runs[key])
    return sorted(groups.values(), key=lambda group: group.last, reverse=True)


def _count(group: ErrorGroup, event: AnyEvent, data: Error) -> None:
    group.count += 1
    group.first = min(group.first, event.timestamp)
    if event.timestamp >= group.last:
        group.last, group.last_run_id = event.timestamp, event.run_id
        group.last_message = data.error if isinstance(data.error, str) else None
    name = event.agent_name
    if name is not None and name not in group.agents and len(group.agents) < 20:
        group.agents.append(name)
