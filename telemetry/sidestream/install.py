"""`install()`: observation of every agent of the process, existing and future, without a change in the agents' code.

`Agent.__init__` is wrapped, and the wrapper attaches the sidecar to each new agent. Agents are held weakly.
`uninstall()` restores everything.
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
"""Module that defines `Agent`. `install()` never imports the module itself."""
MAX_WAIT_SECONDS = 1.0
"""Maximum wait in seconds of `install()` for agents under construction in other threads."""

_lock = threading.RLock()  # guards the state below; never held during a call that can block for long
_installed: _Installation | None = None


def install(
    *exporters: Exporter | str,
    sidecar: Sidecar | None = None,
    sdk: str | Sequence[str] | None = None,
    **settings: Any,
) -> Sidecar:
    """Observe every agent of the process, existing and future; returns the sidecar.

    Covers pydantic-ai's agents, and the SDKs in `sdk` once the program imports them. May be called before those imports
    and from any thread. A second call returns the same sidecar, and logs a warning if it has other settings; only a
    call by the program replaces the installation of `sidestream run`. Runs in progress stay unobserved, and so do
    agents that `gc.freeze()` has hidden from the garbage collector. An exporter from the environment that cannot work
    is logged and left out.

    Args:
        exporters: As for `Sidecar`.
        sidecar: An existing sidecar, instead of exporters and settings. The caller remains responsible for closing it.
        sdk: SDKs to observe beside pydantic-ai, such as `["openai", "anthropic"]` or `"openai,anthropic"`; default
            `SIDESTREAM_SDK`, else all known SDKs; `"none"` for none.
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
        made = sidecar if sidecar is not None else _make_sidecar(exporters, settings)
        if made.disabled:
            return made
        installation = _installed = _Installation(made, owns_sidecar=sidecar is None, sdks=names)
        installation.listen()
    installation.sdks.begin()
    if AGENTS in sys.modules:
        # Outside the lock, because this call waits while another thread imports the module.
        module = importlib.import_module(AGENTS)
        installation.wrap(module)
        installation.attach_existing(module)
    return made


def _make_sidecar(exporters: Sequence[Exporter | str], settings: dict[str, Any]) -> Sidecar:
    """Make the sidecar of `install()`. Exporters from the environment that cannot work are logged and left out."""
    if not exporters and not is_disabled():
        exporters = exporters_that_work(exporters_from_environment()) or ["none"]
    return Sidecar(*exporters, **settings)


def _sdks(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of the SDKs to observe. Unknown names in the environment are logged and left out."""
    named = os.environ.get("SIDESTREAM_SDK", "").strip()
    if given is not None or not named:
        return sdks_of(given)
    return sdks_of(known_sdks(named, lambda name, known: warn("unknown SDK left out", sdk=name, known=known)))


def uninstall() -> None:
    """Undo `install()`: restores the SDKs, `Agent.__init__` and the agents, and closes a sidecar made by `install()`.

    Agents attached by `Sidecar.observe()` stay attached. No-op without an installation. If another library has wrapped
    `Agent.__init__` afterwards, the wrapper of Sidestream stays below the other one and only forwards the call.
    """
    global _installed
    with _lock:
        installation, _installed = _installed, None
        if installation is not None:
            installation.undo()
            installation.sdks.undo()
    if installation is not None and installation.owns_sidecar:
        installation.sidecar.close()


class _Installation:
    """Installation of one sidecar on all agents, between `install()` and `uninstall()`."""

    def __init__(self, sidecar: Sidecar, *, owns_sidecar: bool, sdks: Sequence[str]) -> None:
        self.sidecar = sidecar
        self.owns_sidecar = owns_sidecar
        self.sdks = SdkObserver(sidecar, sdks)
        self._hook: ImportHook | None = None
        self._agent_class: Any = None
        self._original: Callable[..., None] | None = None
        self._wrapper: Callable[..., None] | None = None
        self._attached: dict[int, weakref.ref[Any]] = {}  # keyed by id, because agents are not hashable

    def listen(self) -> None:
        """Wrap `Agent` once it is imported."""
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
                    if error.__traceback__ is not None:  # remove the frame of this wrapper from the traceback
                        error.__traceback__ = error.__traceback__.tb_next
                    raise
                attach(self)

            attach = self.attach
            __init__.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]  # for getfullargspec
            self._wrapper = self._agent_class.__init__ = __init__

    def attach(self, agent: Any) -> None:
        """Observe `agent`, unless it is already observed."""
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
                if self.sidecar.stands_aside:  # `sidestream run`: the program itself does not turn the banner off
                    _silence_banner()
                key, attached = id(agent), self._attached
                attached[key] = weakref.ref(agent, lambda _: attached.pop(key, None))

    def attach_existing(self, module: ModuleType) -> None:
        """Observe the existing agents."""
        if self._original is not None:
            _wait_until_left(self._original.__code__)
        cls = module.Agent
        for each in gc.get_objects():
            if cls in type(each).__mro__:  # isinstance() would resolve lazy proxies, because it reads their `__class__`
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
    """Disable pydantic-ai's banner, which claims at the first run that observability is off."""
    pydantic_ai = sys.modules.get("pydantic_ai")
    if hasattr(pydantic_ai, "BANNER_ENABLED"):
        setattr(pydantic_ai, "BANNER_ENABLED", False)  # noqa: B010


def _guarded(call: Callable[[Any], None], argument: Any) -> None:
    """Call `call(argument)` and log a failure, so that imports and constructors of agents never fail."""
    try:
        call(argument)
    except Exception as error:
        kind = type(error).__qualname__
        error_once("cannot observe agents, they continue unobserved", kind, exception=kind)


def _wait_until_left(code: CodeType) -> None:
    """Wait until no other thread executes `code`: an agent that is made there bypasses the new wrapper."""
    deadline = time.monotonic() + MAX_WAIT_SECONDS
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
    _lock = threading.RLock()  # another thread may have held the old lock at the fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
