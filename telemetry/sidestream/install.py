"""Observation of every agent of a process, existing and future, without a change in its code: `install()`.

An agent is observed as soon as it is made: `Agent.__init__` is wrapped, and the wrapper attaches what the agent's own
constructor has finished. Agents are held weakly. `uninstall()` puts everything back.
"""

from __future__ import annotations

import functools
import gc
import importlib
import inspect
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from types import CodeType, FrameType, ModuleType
from typing import Any

from .diagnostics import error_once, warn
from .errors import ConfigurationError
from .import_hook import ImportHook
from .pipeline.exporter import Exporter
from .settings import exporters_from_environment, exporters_that_work, is_disabled
from .sidecar import Sidecar
from .sources.sdk.registry import SdkObserver, known_sdks, sdks_of
from .stdlib_compat import frames_of_other_threads

AGENTS = "pydantic_ai.agent"
"""Module that defines `Agent`. It need not be imported yet, and is not imported for our sake."""
PATIENCE = 1.0
"""Seconds that `install()` waits at most for agents which other threads are making at that moment."""

_lock = threading.RLock()  # guards everything below; nothing that can block for long happens under it
_installed: _Installation | None = None


def install(
    *exporters: Exporter | str,
    sidecar: Sidecar | None = None,
    sdk: str | Sequence[str] | None = None,
    **settings: Any,
) -> Sidecar:
    """Observe every agent of the process, those that exist and those that will; returns the sidecar.

    Observed are pydantic-ai's agents, and the SDKs of `sdk` where the program imports them. May be called before any of
    them is imported, which it does not do itself, and from any thread. Twice is once: a second
    call returns the sidecar of the first, and warns if it asked for other settings; but a program's own call takes over
    from `sidestream run`. Runs already in progress go on unobserved. Not found are agents that `gc.freeze()` hid from
    the garbage collector before. An exporter that the environment names and that cannot work is logged, and left out.

    Args:
        exporters: As for `Sidecar`.
        sidecar: One that exists already, instead of exporters and settings. It stays yours to close.
        sdk: SDKs to observe beside pydantic-ai's agents, such as `["openai", "anthropic"]` or `"openai,anthropic"`; all
            that are known unless given here or in `SIDESTREAM_SDK`; `"none"` for none.
        settings: As for `Sidecar`.

    Raises:
        ConfigurationError: an argument cannot work.
    """
    global _installed
    with _lock:
        if _installed is not None and (not _installed.sidecar.active or _installed.sidecar.stands_aside):
            uninstall()
        if _installed is not None:
            if exporters or settings or sidecar not in (None, _installed.sidecar):
                warn("already installed, new settings ignored: call sidestream.uninstall() first")
            return _installed.sidecar
        if sidecar is not None and (exporters or settings):
            raise ConfigurationError("install: give a sidecar, or exporters and settings to make one, not both")
        if sidecar is not None and not sidecar.active and not sidecar.disabled:
            raise ConfigurationError("install: this sidecar is closed, make a new one")
        names = _sdks(sdk)
        made = sidecar if sidecar is not None else _made(exporters, settings)
        if made.disabled:
            return made
        installation = _installed = _Installation(made, ours=sidecar is None, sdks=names)
        installation.listen()
    installation.sdks.begin()
    if AGENTS in sys.modules:
        # Not under the lock: this waits for another thread that is in the middle of importing it.
        module = importlib.import_module(AGENTS)
        installation.wrap(module)
        installation.attach_existing(module)
    return made


def _made(exporters: Sequence[Exporter | str], settings: dict[str, Any]) -> Sidecar:
    """Makes the sidecar of `install()`. Exporters of the environment that cannot work are said and left out."""
    if not exporters and not is_disabled():
        exporters = exporters_that_work(exporters_from_environment()) or ["none"]
    return Sidecar(*exporters, **settings)


def _sdks(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """The SDKs to observe. A name in the environment that there is not is said, and left out."""
    named = os.environ.get("SIDESTREAM_SDK", "").strip()
    if given is not None or not named:
        return sdks_of(given)
    return sdks_of(known_sdks(named, lambda name, known: warn("SDK left out, there is no such", sdk=name, known=known)))


def uninstall() -> None:
    """Undo `install()`: SDKs, `Agent.__init__` and the agents are as they were, and a sidecar that it made is closed.

    What `Sidecar.observe()` attached stays attached. Without an installation nothing happens. Where another library has
    wrapped `Agent.__init__` after us, its wrapper is left in place, and ours below it only passes on.
    """
    global _installed
    with _lock:
        installation, _installed = _installed, None
        if installation is not None:
            installation.undo()
            installation.sdks.undo()
    if installation is not None and installation.ours:
        installation.sidecar.close()


class _Installation:
    """Installation of one sidecar on all agents, from `install()` to `uninstall()`."""

    def __init__(self, sidecar: Sidecar, *, ours: bool, sdks: Sequence[str]) -> None:
        self.sidecar = sidecar
        self.ours = ours
        self.sdks = SdkObserver(sidecar, sdks)
        self._hook: ImportHook | None = None
        self._agent_class: Any = None
        self._original: Callable[..., None] | None = None
        self._wrapper: Callable[..., None] | None = None
        self._attached: dict[int, weakref.ref[Any]] = {}  # by id, for agents cannot be hashed

    def listen(self) -> None:
        """Wrap `Agent` as soon as it is imported."""
        self._hook = ImportHook({AGENTS: lambda module: _guarded(self.wrap, module)})
        self._hook.enter()

    def wrap(self, module: ModuleType) -> None:
        """Wrap `Agent.__init__`, so that each new agent is observed."""
        with _lock:
            if self._hook is not None:
                self._hook.leave()
            if _installed is not self or self._wrapper is not None:
                return
            self._agent_class = module.Agent
            original = self._original = self._agent_class.__init__

            @functools.wraps(original)
            def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
                try:
                    original(self, *args, **kwargs)
                except BaseException as error:
                    if error.__traceback__ is not None:  # this frame, which without us would not be there
                        error.__traceback__ = error.__traceback__.tb_next
                    raise
                attach(self)

            attach = self.attach
            __init__.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]  # for getfullargspec
            self._wrapper = self._agent_class.__init__ = __init__

    def attach(self, agent: Any) -> None:
        """Observe `agent`, unless it is observed already."""
        _guarded(self._attach, agent)

    def _attach(self, agent: Any) -> None:
        with _lock:
            if _installed is not self or not self.sidecar.active:
                return
            observer, present = self.sidecar.capability, agent.root_capability.capabilities
            if self.sidecar.stands_aside and any(type(each) is type(observer) for each in present):
                return
            if not any(capability is observer for capability in present):
                self.sidecar.observe(agent)
                if self.sidecar.stands_aside:  # `sidestream run`: the program has nobody else to say it
                    _silence_banner()
                key, attached = id(agent), self._attached
                attached[key] = weakref.ref(agent, lambda _: attached.pop(key, None))

    def attach_existing(self, module: ModuleType) -> None:
        """Observe the agents that exist already."""
        if self._original is not None:
            _wait_until_left(self._original.__code__)
        cls = module.Agent
        for each in gc.get_objects():
            if cls in type(each).__mro__:  # isinstance() would ask proxies what they stand for, and wake them
                self.attach(each)

    def undo(self) -> None:
        if self._hook is not None:
            self._hook.leave()
        if self._wrapper is not None and self._agent_class.__init__ is self._wrapper:
            self._agent_class.__init__ = self._original
        for ref in list(self._attached.values()):
            agent = ref()
            if agent is not None:
                self.sidecar.unobserve(agent)
        self._attached.clear()


def _silence_banner() -> None:
    """Keep away pydantic-ai's banner, which says at the first run that observability is off: it is on."""
    pydantic_ai = sys.modules.get("pydantic_ai")
    if hasattr(pydantic_ai, "BANNER_ENABLED"):
        setattr(pydantic_ai, "BANNER_ENABLED", False)  # noqa: B010


def _guarded(call: Callable[[Any], None], argument: Any) -> None:
    """Call `call(argument)`. A failure is logged; no import, and no making of an agent, fails with it."""
    try:
        call(argument)
    except Exception as error:
        kind = type(error).__qualname__
        error_once("cannot observe agents, they work on unobserved", kind, exception=kind)


def _wait_until_left(code: CodeType) -> None:
    """Wait for other threads within `code`, since agents that they make there never reach the wrapper around it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and any(_is_within(frame, code) for frame in frames_of_other_threads()):
        time.sleep(0.001)


def _is_within(frame: FrameType | None, code: CodeType) -> bool:
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
