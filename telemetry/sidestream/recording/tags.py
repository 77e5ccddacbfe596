"""Tags and attempts: labels that a program attaches to runs, within bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dis import opmap
from inspect import CO_ASYNC_GENERATOR
from itertools import count
from types import FrameType

from sidestream.errors import ConfigurationError

MAX_TAGS, MAX_TAG_NAME, MAX_TAG_VALUE = 32, 64, 256
"""Maximum number of tags per run; maximum characters of a tag's name and of its value."""


def checked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Validate `tags`; a value that is too long is truncated, because it may come from a request.

    Raises `ConfigurationError` for an error of the program: too many tags, an invalid name, a value that is not a
    string.
    """
    if len(tags) > MAX_TAGS:
        raise ConfigurationError(f"tags: {len(tags)} are too many, at most {MAX_TAGS} are allowed")
    for name, value in tags.items():
        if not isinstance(name, str) or not 0 < len(name) <= MAX_TAG_NAME:
            raise ConfigurationError(f"tags: the name {name!r} must be a string of 1 to {MAX_TAG_NAME} characters")
        if not isinstance(value, str):
            raise ConfigurationError(f"tags: {name}={value!r} is a {type(value).__name__}, it must be a string")
    return {name: v if len(v) <= MAX_TAG_VALUE else v[: MAX_TAG_VALUE - 1] + "…" for name, v in tags.items()}


class Attempts:
    """Counter of runs that attempt the same task, in sequence or concurrently."""

    __slots__ = ("_first", "_numbers")

    def __init__(self) -> None:
        self._numbers = count(1)
        self._first: str | None = None

    def next(self, run_id: str) -> tuple[int, str]:
        """Number of the next attempt, and the run id of the first."""
        number = next(self._numbers)
        if self._first is None:
            self._first = run_id
        return number, self._first


class TagsHere:
    """Tags for runs that start in the current context, from nested `with` blocks.

    A context variable set by an async generator is visible to its consumer while the generator is suspended at a
    `yield`:

        async def answers(tenant):
            with sidecar.tags(tenant=tenant):
                yield ...   # here the consumer runs, and its own runs must not get this tag

    Therefore a block in an async generator applies only while the generator runs or awaits.
    """

    def __init__(self, tags: Mapping[str, str]) -> None:
        outermost = _Block(checked_tags(tags))
        self._block: ContextVar[_Block] = ContextVar("sidestream_tags", default=outermost)

    def get(self) -> Mapping[str, str]:
        """Tags for a run that starts now."""
        return self._here().tags

    def attempts(self) -> Attempts | None:
        """Attempt counter for a run that starts now; None outside of `attempts()`."""
        return self._here().attempts

    def _here(self) -> _Block:
        block = self._block.get()
        while block.outer is not None and not block.holds():
            block = block.outer
        return block

    @contextmanager
    def block(self, tags: Mapping[str, str], opener: FrameType, *, attempts: Attempts | None = None) -> Iterator[None]:
        """Apply `tags` or `attempts` within a `with` block opened by the frame `opener`."""
        before, here = self._block.get(), self._here()
        leaking = opener if _leaks(opener) else None
        block = _Block(checked_tags({**here.tags, **tags}), before, leaking, attempts or here.attempts)
        self._block.set(block)
        try:
            yield
        finally:
            block.close()
            self._block.set(before)


class _Block:
    """Tags of one `with` block, and the async generator that opened it, if any."""

    __slots__ = ("_generator", "_open", "attempts", "outer", "tags")

    def __init__(
        self,
        tags: Mapping[str, str],
        outer: _Block | None = None,
        generator: FrameType | None = None,
        attempts: Attempts | None = None,
    ) -> None:
        self.tags = tags
        self.attempts = attempts
        self.outer = outer
        self._generator = generator
        self._open = True

    def holds(self) -> bool:
        return self._open and (self._generator is None or not _stands_at_yield(self._generator))

    def close(self) -> None:
        """End the block, also in contexts that the generator's teardown in another task does not reach."""
        self._open = False
        self._generator = None  # releases the variables of the generator


def _leaks(opener: FrameType) -> bool:
    """Whether other code sees a context variable set in `opener`: an async generator that is not a context manager."""
    if not opener.f_code.co_flags & CO_ASYNC_GENERATOR:
        return False
    driver = opener.f_back
    return driver is None or driver.f_globals.get("__name__") != "contextlib"


_YIELD_VALUE, _RESUME, _AFTER_YIELD = opmap["YIELD_VALUE"], opmap["RESUME"], 1


def _stands_at_yield(generator: FrameType) -> bool:
    """Whether the generator of this frame is suspended at a `yield`, as opposed to running or awaiting.

    Both suspensions stop at a YIELD_VALUE; the argument of the following RESUME distinguishes them (see module `dis`).
    """
    code, at = generator.f_code.co_code, generator.f_lasti
    suspended = 0 <= at < len(code) - 3 and code[at] == _YIELD_VALUE and code[at + 2] == _RESUME
    return suspended and code[at + 3] & 3 == _AFTER_YIELD
