"""Reversible patches of functions in a library's classes and modules."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from sidestream.diagnostics import warn_once


class _Patch(NamedTuple):
    owner: Any
    name: str
    before: Any
    """Raw attribute before the patch, so that a static or class method can be restored."""
    own: bool
    """Whether the attribute was defined by `owner` itself, and not inherited."""
    wrapper: Any


class Patches:
    """Patched functions of one library, in order."""

    def __init__(self, library: str) -> None:
        self._library = library
        self._done: list[_Patch] = []
        self._at_undo: list[Callable[[], object]] = []

    def wrap(self, owner: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> bool:
        """Replace the function `name` of `owner`, a class or a module, by `make(function)`.

        Returns False and logs a warning once if the function does not exist; its calls are not observed then.
        """
        before = inspect.getattr_static(owner, name, None)
        function = before.__func__ if isinstance(before, staticmethod | classmethod) else before
        if not callable(function):
            place = f"{getattr(owner, '__module__', '')}.{getattr(owner, '__name__', owner)}".strip(".")
            warn_once("cannot observe a part of an SDK", place, name, library=self._library, name=f"{place}.{name}")
            return False
        wrapper = make(function)
        functools.update_wrapper(wrapper, function)
        placed: Any = type(before)(wrapper) if isinstance(before, staticmethod | classmethod) else wrapper
        self._done.append(_Patch(owner, name, before, name in vars(owner), placed))
        setattr(owner, name, placed)
        return True

    def at_undo(self, call: Callable[[], object]) -> None:
        """Register `call` for `undo()`, to revert changes other than patched functions."""
        self._at_undo.append(call)

    def undo(self) -> None:
        """Restore all functions. A wrapper under another library's wrapper stays in place, and only forwards."""
        while self._at_undo:
            self._at_undo.pop()()
        while self._done:
            patch = self._done.pop()
            if inspect.getattr_static(patch.owner, patch.name, None) is not patch.wrapper:
                continue
            if patch.own:
                setattr(patch.owner, patch.name, patch.before)
            else:
                delattr(patch.owner, patch.name)
