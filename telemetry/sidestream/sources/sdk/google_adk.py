"""Google's Agent Development Kit: each `run_async` of a runner is a run read from its events."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from sidestream.sources.adapters.fields import field
from sidestream.sources.adapters.google_adk import GoogleAdk

from .agent_streams import RunFacts, observed_stream
from .calls import Observation, text_of
from .patching import Patches

_MODELS = "google.adk.models."
"""Modules that make requests through other observed SDKs. Model calls in tools come from other modules."""


def patch(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe the SDK after the import of `google.adk.runners`. `run` and agents as tools use `run_async` as well."""
    patches.wrap(
        module.Runner,
        "run_async",
        lambda original: observed_stream(original, observation, GoogleAdk, _about, (_MODELS,)),
    )


def _about(runner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RunFacts:
    name = field(field(runner, "agent"), "name") or field(runner, "app_name")
    message, session = kwargs.get("new_message"), kwargs.get("session_id")
    return RunFacts(
        name if isinstance(name, str) else None,
        text_of(field(message, "parts")),
        session if isinstance(session, str) else None,
    )
