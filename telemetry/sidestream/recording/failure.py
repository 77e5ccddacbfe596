"""Exceptions as plain data, since an exception object would keep the variables of its frames alive."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, TypeAlias

from sidestream.events import Frame, Raised

from .snapshot import safe_str, type_name

Link: TypeAlias = Literal["cause", "context", "member"]

OUTERMOST, INNERMOST = 8, 32
"""Number of frames kept from the outer and the inner end of a traceback."""
MAX_FRAMES = 10_000
"""Maximum number of frames to visit, since a recursion may be deep."""
MAX_CHAIN = 16
"""Maximum number of linked exceptions to record: causes, contexts, and members of groups."""
_OWN_MODULES = ("sidestream.", "sidestream_exporters.")
_LIBRARIES = ("/site-packages/", "/dist-packages/", "\\site-packages\\")


@dataclass(frozen=True, slots=True)
class Failure:
    """Type, message and traceback of an exception."""

    type: str
    """Qualified name; without module for builtins."""
    message: str
    frames: tuple[Frame, ...] = ()
    """Traceback without values, the innermost frame last."""
    chain: tuple[Raised, ...] = ()
    """Linked exceptions: causes, contexts and members of a group."""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Convert `error` without its traceback; the message of a group includes those of its members."""
        text = safe_str(error)
        if isinstance(error, BaseExceptionGroup):
            members = (cls.of(member) for member in error.exceptions)
            text = "\n".join([text, *(f"- {member.type}: {member.message}" for member in members)])
        return cls(type_name(error), text)

    @classmethod
    def traced(cls, error: BaseException) -> Failure:
        """Convert `error` with its frames and linked exceptions."""
        plain = cls.of(error)
        return cls(plain.type, plain.message, frames_of(error.__traceback__), tuple(_linked(error)))


def frames_of(trace: TracebackType | None) -> tuple[Frame, ...]:
    """Frames of `trace` without those of Sidestream, the innermost last."""
    first: list[TracebackType] = []
    last: deque[TracebackType] = deque(maxlen=INNERMOST)
    for _ in range(MAX_FRAMES):
        if trace is None:
            break
        if not str(trace.tb_frame.f_globals.get("__name__", "")).startswith(_OWN_MODULES):
            if len(first) < OUTERMOST:
                first.append(trace)
            else:
                last.append(trace)
        trace = trace.tb_next
    return tuple(map(_frame, (*first, *last)))


def _frame(trace: TracebackType) -> Frame:
    code = trace.tb_frame.f_code
    file = code.co_filename
    for folder in _LIBRARIES:
        _, found, within = file.rpartition(folder)
        if found:
            file = within
            break
    return Frame(file=file, line=trace.tb_lineno or code.co_firstlineno, function=code.co_qualname)


def _linked(error: BaseException) -> Iterator[Raised]:
    """Causes, contexts and group members of `error`, depth first."""
    seen = {id(error)}
    todo: deque[tuple[Link, BaseException]] = deque(_next(error))
    for _ in range(MAX_CHAIN):
        if not todo:
            return
        link, each = todo.popleft()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield Raised(
            link=link, exception_type=type_name(each), error=safe_str(each), frames=list(frames_of(each.__traceback__))
        )
        todo.extendleft(reversed(list(_next(each))))


def _next(error: BaseException) -> Iterator[tuple[Link, BaseException]]:
    if isinstance(error, BaseExceptionGroup):
        yield from (("member", member) for member in error.exceptions)
    if error.__cause__ is not None:
        yield "cause", error.__cause__
    elif error.__context__ is not None and not error.__suppress_context__:
        yield "context", error.__context__
