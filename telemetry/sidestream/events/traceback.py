"""Traceback text in Python's layout, from frames without source lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .payloads import Frame, Json, Raised

_LINK_HEADINGS = {
    "cause": "raised from",
    "context": "raised while this was handled",
    "member": "of the group",
}


def place_of(frames: Sequence[Frame]) -> Frame | None:
    """Innermost frame of the application's own code; the innermost frame of all if only libraries are involved."""
    return next((each for each in reversed(frames) if is_application(each)), frames[-1] if frames else None)


def is_application(frame: Frame) -> bool:
    """Whether `frame` is in the application's code: paths of libraries are relative, Python's contain `lib/python3`."""
    file = frame.file.replace("\\", "/")
    return (file.startswith("/") or file[1:3] == ":/") and "/lib/python3" not in file and not file.startswith("<")


def stack_lines(frames: Iterable[Frame]) -> Iterator[str]:
    """Lines for `frames`, the innermost last."""
    return (f'  File "{each.file}", line {each.line}, in {each.function}' for each in frames)


def traceback_lines(
    exception_type: str | None, error: Json, frames: Sequence[Frame], chain: Sequence[Raised]
) -> Iterator[str]:
    """Lines of the traceback of an error, followed by its chain of linked exceptions."""
    if frames:
        yield "Traceback (most recent call last):"
        yield from stack_lines(frames)
    yield _error_line(exception_type, error)
    for raised in chain:
        yield ""
        yield f"{_LINK_HEADINGS[raised.link]}:"
        yield from stack_lines(raised.frames or ())
        yield _error_line(raised.exception_type, raised.error)


def _error_line(exception_type: str | None, error: Json) -> str:
    kind = exception_type or "error"
    return f"{kind}: {error}" if isinstance(error, str) and error else kind
