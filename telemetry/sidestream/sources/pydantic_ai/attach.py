"""Adding an observer to agents that exist, and taking it away."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_ai.capabilities import Instrumentation

from sidestream.errors import ConfigurationError

if TYPE_CHECKING:
    from .capability import Observer


def attach(agent: Any, observer: Observer) -> None:
    """Add `observer` to an existing agent, so that no other capability is touched. Twice is once.

    Raises `ConfigurationError` where `agent` is not a pydantic-ai agent.
    """
    if not any(capability is observer for capability in _root_capability(agent).capabilities):
        change_capabilities(agent, lambda present: placed(present, [observer]))


def detach(agent: Any, observer: Observer) -> None:
    """Undo `attach`. Runs in progress go on being observed."""
    if any(capability is observer for capability in _root_capability(agent).capabilities):
        change_capabilities(agent, lambda present: [each for each in present if each is not observer])


def placed(present: Sequence[Any], observers: Sequence[Observer]) -> list[Any]:
    """`observers` where `get_ordering` would have put them: behind Instrumentation, in front of everything else."""
    place = max((i for i, each in enumerate(present, 1) if isinstance(each, Instrumentation)), default=0)
    return [*present[:place], *observers, *present[place:]]


def _root_capability(agent: Any) -> Any:
    try:
        root = agent.root_capability
        if isinstance(root.capabilities, list):
            return root
    except (AttributeError, NotImplementedError):
        pass
    raise ConfigurationError(
        f"cannot observe {type(agent).__qualname__!r}: it is not a pydantic-ai agent (2.60 or newer)"
    )


def change_capabilities(agent: Any, change: Callable[[Sequence[Any]], list[Any]]) -> None:
    """Give the agent the capabilities that `change` makes of those it has, from the next run on.

    Raises `ConfigurationError` where `agent` is not a pydantic-ai agent.
    """
    root = _root_capability(agent)
    holder = agent
    while (wrapped := getattr(holder, "wrapped", None)) is not None:
        holder = wrapped
    # A run that is just starting looks at the list twice, and fails if it has changed in between: it keeps the old one.
    replaces = getattr(holder, "_root_capability", None) is root
    changed = copy.copy(root) if replaces else root
    # From 2.63 on the hooks are dispatched from a list of its own, derived from `capabilities` when that was made.
    for name in ("capabilities", "_dispatch"):
        if hasattr(root, name):
            setattr(changed, name, change(getattr(root, name)))
    if replaces:
        holder._root_capability = changed
