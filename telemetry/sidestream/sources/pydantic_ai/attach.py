"""Attaching observers to existing agents, and detaching them."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_ai.capabilities import Instrumentation

from sidestream.errors import ConfigurationError

from . import compat

if TYPE_CHECKING:
    from .capability import Observer


def attach(agent: Any, observer: Observer) -> None:
    """Add `observer` to an existing agent, and leave all other capabilities untouched. Idempotent.

    Raises `ConfigurationError` if `agent` is not a pydantic-ai agent.
    """
    if not any(capability is observer for capability in _root_capability(agent).capabilities):
        change_capabilities(agent, lambda present: placed(present, [observer]))


def detach(agent: Any, observer: Observer) -> None:
    """Undo `attach`. Runs in progress stay observed to their end."""
    if any(capability is observer for capability in _root_capability(agent).capabilities):
        change_capabilities(agent, lambda present: [each for each in present if each is not observer])


def placed(present: Sequence[Any], observers: Sequence[Observer]) -> list[Any]:
    """Insert `observers` directly after the last Instrumentation, or first without one, as `get_ordering` requests."""
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
    """Replace the capabilities of the agent by the result of `change`, from the next run on.

    Raises `ConfigurationError` if `agent` is not a pydantic-ai agent.
    """
    root = _root_capability(agent)
    holder = compat.unwrapped(agent)
    # A starting run reads the list twice, and fails if the list changes in between; therefore replace the root by a
    # copy.
    replaces = compat.has_root(holder, root)
    changed = copy.copy(root) if replaces else root
    for name, present in compat.hook_lists(root):
        setattr(changed, name, change(present))
    if replaces:
        compat.set_root(holder, changed)


# --- temporary observers of streams ----------------------------------------------------------------------------------


@dataclass
class TemporaryObservers:
    """Observers of an agent for the duration of its streams."""

    before: Any
    """Root capability of the agent without these observers."""
    needed: Counter[int] = field(default_factory=Counter)
    """Number of runs in progress that need an observer, by the observer's id."""


_lock = threading.RLock()
_temporary: dict[int, TemporaryObservers] = {}
"""Temporary observers by the id of the agent."""


@contextmanager
def attached(agent: Any, observers: Sequence[Observer]) -> Iterator[Sequence[Observer]]:
    """Attach `observers` to the agent for the duration of the block; yields the observers to pass to the run instead.

    Attaching is preferred, because a capability passed to a run makes pydantic-ai recompute the tools and settings of
    all others. Under `override(spec=…)` with capabilities, which hides those of the agent, the observers are passed to
    the run.
    """
    core = core_of(agent)
    if compat.effective_root(core) is not core.root_capability:
        yield observers
        return
    with _lock:
        temporary = _temporary.setdefault(id(core), TemporaryObservers(core.root_capability))
        new = [observer for observer in observers if not temporary.needed[id(observer)]]
        temporary.needed.update(map(id, observers))
        if new:
            change_capabilities(core, lambda present: placed(present, new))
    try:
        yield ()
    finally:
        with _lock:
            temporary.needed.subtract(map(id, observers))
            gone = {id(observer) for observer in observers if not temporary.needed[id(observer)]}
            if gone:
                change_capabilities(core, lambda present: [each for each in present if id(each) not in gone])
            if not +temporary.needed:
                del _temporary[id(core)]
                now, before = core.root_capability.capabilities, temporary.before.capabilities
                if list(map(id, now)) == list(map(id, before)):
                    compat.set_root(core, temporary.before)


def effective_capabilities(agent: Any) -> Sequence[Any]:
    """Capabilities of the agent for a run in the current context, without those passed to the run."""
    return compat.effective_root(core_of(agent)).capabilities  # type: ignore[no-any-return]


def core_of(agent: Any) -> Any:
    """Agent inside all wrappers. Raises `ConfigurationError` if `agent` is not a pydantic-ai agent."""
    core = compat.unwrapped(agent)
    if not compat.owns_root(core):
        raise ConfigurationError(f"cannot stream {type(agent).__qualname__!r}: it is not a pydantic-ai agent")
    return core
