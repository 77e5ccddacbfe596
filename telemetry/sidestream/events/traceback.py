"""Tracebacks as Python writes them, from frames without their source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .payloads import Frame, Json, Raised

_BEHIND = {
    "cause": "raised from",
    "context": "raised while this was handled",
    "member": "of the group",
}


def place_of(frames: Sequence[Frame]) -> Frame | None:
    """The innermost frame of the application's own code; of a library's where no other is known."""
    return next((each for each in reversed(frames) if is_application(each)), frames[-1] if frames else None)


def is_application(frame: Frame) -> bool:
    """Whether the code is the application's, by its path: that of a library is relative, Python's in `lib/python3`."""
    file = frame.file.replace("\\", "/")
    return (file.startswith("/") or file[1:3] == ":/") and "/lib/python3" not in file and not file.startswith("<")


def stack_lines(frames: Iterable[Frame]) -> Iterator[str]:
    """The frames, the innermost last."""
    return (f'  File "{each.file}", line {each.line}, in {each.function}' for each in frames)


def traceback_lines(
    exception_type: str | None, error: Json, frames: Sequence[Frame], chain: Sequence[Raised]
) -> Iterator[str]:
    """The error and what is behind it, line by line."""
    if frames:
        yield "Traceback (most recent call last):"
        yield from stack_lines(frames)
    yield _said(exception_type, error)
    for raised in chain:
        yield ""
        yield f"{_BEHIND[raised.link]}:"
        yield from stack_lines(raised.frames or ())
        yield _said(raised.exception_type, raised.error)


def _said(exception_type: str | None, error: Json) -> str:
    kind = exception_type or "error"
    return f"{kind}: {error}" if isinstance(error, str) and error else kind
