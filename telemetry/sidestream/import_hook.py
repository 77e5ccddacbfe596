"""Import hook: a call once a module has been imported, without importing it, and without changing its loader."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .diagnostics import error_once


class ImportHook:
    """Stands in `sys.meta_path` until the module `name` is imported, then calls `imported` with it.

    No import fails with it: `imported` may not raise, and a failure of its own is said.
    """

    def __init__(self, name: str, imported: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._imported = imported

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
        if name != self._name or self not in sys.meta_path:
            return None
        # Only the finders behind this one: another of its kind, in front, may be asking all the others, and so us.
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(name, path, target) if hasattr(finder, "find_spec") else None
            if spec is not None:
                try:
                    self._follow(spec.loader)
                except Exception as error:
                    kind = type(error).__qualname__
                    error_once("cannot listen for the import of a module", name, module=name, exception=kind)
                return spec
        return None

    def _follow(self, loader: Any) -> None:
        # The loader itself is not replaced: sources and resources are read through it.
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            loader.exec_module = execute
            execute(module)
            self._imported(module)

        loader.exec_module = exec_module
