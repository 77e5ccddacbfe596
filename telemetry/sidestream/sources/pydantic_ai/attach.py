"""Adding an observer to agents that exist, and taking it away."""

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
    holder = compat.unwrapped(agent)
    # A run that is just starting looks at the list twice, and fails if it has changed in between: it keeps the old one.
    replaces = compat.has_root(holder, root)
    changed = copy.copy(root) if replaces else root
    for name, present in compat.hook_lists(root):
        setattr(changed, name, change(present))
    if replaces:
        compat.set_root(holder, changed)


# --- for the time of a stream ----------------------------------------------------------------------------------------


@dataclass
class TemporaryObservers:
    """Observers that an agent has while streams of it are in progress."""

    before: Any
    """The agent's root capability without them."""
    needed: Counter[int] = field(default_factory=Counter)
    """By the id of an observer: how many runs in progress need it."""


_lock = threading.RLock()
_temporary: dict[int, TemporaryObservers] = {}
"""By the id of the agent."""


@contextmanager
def attached(agent: Any, observers: Sequence[Observer]) -> Iterator[Sequence[Observer]]:
    """Have `observers` in the agent while it runs; yields those that the run itself has to bring.

    In the agent, for a capability that a run brings has pydantic-ai ask all others for their tools and settings again.
    Under `override(spec=…)` with capabilities, which hides the agent's own, it does that in any case.
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
    """Capabilities that a run of `agent` in this context has, without those that the run itself brings."""
    return compat.effective_root(core_of(agent)).capabilities  # type: ignore[no-any-return]


def core_of(agent: Any) -> Any:
    """The agent that any wrappers are around. Raises `ConfigurationError` where there is none."""
    core = compat.unwrapped(agent)
    if not compat.owns_root(core):
        raise ConfigurationError(f"cannot stream {type(agent).__qualname__!r}: it is not a pydantic-ai agent")
    return core
