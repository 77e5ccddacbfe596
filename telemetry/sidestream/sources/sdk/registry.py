"""Registry of the observable SDKs, and of the modules to patch in each."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TypeAlias

from sidestream.diagnostics import error_once
from sidestream.errors import ConfigurationError
from sidestream.import_hook import ImportHook
from sidestream.pipeline.addresses import shown_value
from sidestream.recording.recorder import Recorder

from . import claude_agent, google, google_adk, langgraph, litellm, mistral, openai_agents, stainless
from .calls import Observation
from .patching import Patches

Patch: TypeAlias = Callable[[ModuleType, Patches, Observation], None]
"""Function that patches an imported module."""


def _direct(module: ModuleType, patches: Patches, observation: Observation) -> None:
    from sidestream.sources.pydantic_ai.without_agent import patch_direct

    patch_direct(module, patches, observation)


def _embeddings(module: ModuleType, patches: Patches, observation: Observation) -> None:
    from sidestream.sources.pydantic_ai.results import patch_results

    patch_results(module.Embedder, "embed", patches, observation)


def _images(module: ModuleType, patches: Patches, observation: Observation) -> None:
    from sidestream.sources.pydantic_ai.results import patch_results

    patch_results(module.ImageGenerator, "generate", patches, observation)


def _realtime(module: ModuleType, patches: Patches, observation: Observation) -> None:
    from sidestream.sources.pydantic_ai.realtime_models import patch_realtime

    patch_realtime(module, patches, observation)


SDKS: dict[str, dict[str, Patch]] = {
    "pydantic-ai": {
        "pydantic_ai.direct": _direct,
        "pydantic_ai.embeddings": _embeddings,
        "pydantic_ai.images": _images,
        **{
            f"pydantic_ai.realtime.{provider}": _realtime
            for provider in ("azure", "elevenlabs_agents", "google", "openai", "openai_live", "xai")
        },
    },
    "openai": {
        "openai._base_client": stainless.observe("openai"),
        "openai._response": stainless.observe_responses,
        "openai.lib.streaming.chat._completions": stainless.observe_helper(
            "ChatCompletionStream", "AsyncChatCompletionStream"
        ),
        "openai.lib.streaming.responses._responses": stainless.observe_helper("ResponseStream", "AsyncResponseStream"),
    },
    "anthropic": {
        "anthropic._base_client": stainless.observe("anthropic"),
        "anthropic._response": stainless.observe_responses,
    },
    "groq": {"groq._base_client": stainless.observe("groq"), "groq._response": stainless.observe_responses},
    "google": {"google.genai.models": google.patch},
    "mistral": {
        "mistralai.client.chat": mistral.patch,
        "mistralai.client.utils.eventstreaming": mistral.patch_streams,
        "mistralai.chat": mistral.patch,  # versions before 2
        "mistralai.utils.eventstreaming": mistral.patch_streams,
    },
    "litellm": {
        "litellm": litellm.patch,
        "litellm.litellm_core_utils.streaming_handler": litellm.patch_streams,
    },
    "openai-agents": {"agents.run": openai_agents.patch},
    "langgraph": {
        "langgraph.pregel.main": langgraph.patch,
        "langgraph.pregel": langgraph.patch,  # versions before 0.6
    },
    "google-adk": {"google.adk.runners": google_adk.patch},
    "claude-agent": {
        "claude_agent_sdk._internal.client": claude_agent.patch_query,
        "claude_agent_sdk.client": claude_agent.patch_client,
    },
}
"""Modules to patch after their import, by name of the SDK."""


def sdks_of(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """SDKs named by `names`: all if None, none for `none`.

    Raises `ConfigurationError` for an unknown name.
    """
    if names is None:
        return tuple(SDKS)
    given = names.split(",") if isinstance(names, str) else list(names)
    wanted = [name.strip() for name in given if name.strip()]
    if wanted == ["none"]:
        return ()
    for name in wanted:
        if name not in SDKS:
            there = ", ".join(SDKS)
            raise ConfigurationError(f"sdk={shown_value(name)}: unknown SDK; available are: {there}, and none")
    return tuple(dict.fromkeys(wanted)) or tuple(SDKS)


def known_sdks(names: str, on_unknown: Callable[[str, str], object]) -> list[str]:
    """Known SDKs in the comma-separated `names`, for a program that must run regardless; `["none"]` for `none`.

    Calls `on_unknown(name, known names)` for each unknown name, and leaves it out.
    """
    given = [name.strip() for name in names.split(",") if name.strip()]
    if given == ["none"]:
        return given
    known = [name for name in given if name in SDKS]
    for name in given:
        if name not in known:
            on_unknown(shown_value(name), f"{', '.join(SDKS)}, none")
    return known or (["none"] if given else list(SDKS))


class SdkObserver:
    """Observes the SDKs `names` between `begin()` and `undo()`, without importing them."""

    def __init__(self, recorder: Recorder, names: Iterable[str]) -> None:
        self._observation = Observation(recorder)
        self._patches = {name: Patches(name) for name in names}
        self._modules = {module: name for name in self._patches for module in SDKS[name]}
        self._hook = ImportHook(dict.fromkeys(self._modules, self._imported))
        self._patched: set[str] = set()

    def begin(self) -> None:
        """Patch the modules imported so far, and others after their import."""
        if not self._modules:
            return
        self._hook.enter()
        for module in [module for module in self._modules if module in sys.modules]:
            # Waits if another thread is importing the module.
            self._imported(importlib.import_module(module))

    def _imported(self, module: ModuleType) -> None:
        """Patch `module` once. Failures are logged, so that no import fails."""
        name = module.__name__
        self._hook.called(name)
        if name in self._patched or not self._observation.on:
            return
        self._patched.add(name)
        sdk = self._modules[name]
        try:
            SDKS[sdk][name](module, self._patches[sdk], self._observation)
        except Exception as error:
            kind = type(error).__qualname__
            error_once("cannot observe an SDK, it continues unobserved", name, module=name, exception=kind)

    def undo(self) -> None:
        """Restore all patched functions."""
        self._observation.on = False
        self._hook.leave()
        for patches in self._patches.values():
            patches.undo()
