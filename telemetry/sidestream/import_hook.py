"""Import hook: functions called after the import of a module, without importing the module or replacing its loader."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .diagnostics import error_once


class ImportHook:
    """Finder in `sys.meta_path` that calls a function after the import of each module in `calls`.

    The hook never makes an import fail: the functions must not raise, and failures of the hook itself are logged.
    """

    def __init__(self, calls: Mapping[str, Callable[[ModuleType], None]]) -> None:
        self._calls = dict(calls)

    def enter(self) -> None:
        """Add the hook to `sys.meta_path`, before all other finders."""
        sys.meta_path.insert(0, self)

    def leave(self) -> None:
        """Remove the hook from `sys.meta_path`."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._calls or self not in sys.meta_path:
            return None
        # Skip the finders in front: another import hook there may query all finders, and would recurse endlessly.
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(name, path, target) if hasattr(finder, "find_spec") else None
            if spec is not None:
                try:
                    self._follow(name, spec.loader)
                except Exception as error:
                    kind = type(error).__qualname__
                    error_once("cannot listen for the import of a module", name, module=name, exception=kind)
                return spec
        return None

    def called(self, name: str) -> None:
        """Forget the module `name`; removes the hook after the last module."""
        self._calls.pop(name, None)
        if not self._calls:
            self.leave()

    def _follow(self, name: str, loader: Any) -> None:
        # The loader itself stays in place, because sources and resources are read through it.
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            loader.exec_module = execute
            execute(module)
            call = self._calls.get(name)
            self.called(name)
            if call is not None:
                call(module)

        loader.exec_module = exec_module
