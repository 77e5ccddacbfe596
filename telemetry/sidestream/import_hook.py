"""Import hook: calls once modules have been imported, without importing them, and without changing their loaders."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .diagnostics import error_once


class ImportHook:
    """Stands in `sys.meta_path` until each module of `calls` is imported, and calls its function with the module.

    No import fails with it: the functions may not raise, and a failure of its own is said.
    """

    def __init__(self, calls: Mapping[str, Callable[[ModuleType], None]]) -> None:
        self._calls = dict(calls)

    def enter(self) -> None:
        """Listen, before every other finder."""
        sys.meta_path.insert(0, self)

    def leave(self) -> None:
        """Listen no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._calls or self not in sys.meta_path:
            return None
        # Only the finders behind this one: another of its kind, in front, may be asking all the others, and so us.
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
        """Listen for the module `name` no longer."""
        self._calls.pop(name, None)
        if not self._calls:
            self.leave()

    def _follow(self, name: str, loader: Any) -> None:
        # The loader itself is not replaced: sources and resources are read through it.
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            loader.exec_module = execute
            execute(module)
            call = self._calls.get(name)
            self.called(name)
            if call is not None:
                call(module)

        loader.exec_module = exec_module
