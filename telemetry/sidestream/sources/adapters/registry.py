"""Registry of adapters: built-in, installed, and chosen by the items of a stream.

Third-party adapters are functions or classes in the entry-point group `sidestream.adapters`. Installed classes with a
static method `recognizes(item)` take part in the choice, before the built-in adapters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from sidestream.diagnostics import warn_once
from sidestream.errors import ConfigurationError

from .ag_ui import AgUi
from .anthropic import Anthropic
from .choice import ByItem
from .claude_agent import ClaudeAgent
from .events import Events
from .google import Google
from .google_adk import GoogleAdk
from .json import any_json
from .langgraph import LangGraph
from .mistral import Mistral
from .openai_agents import OpenAIAgents
from .openai_chat import OpenAIChat
from .openai_responses import OpenAIResponses
from .protocol import Adapter
from .sse import ServerSentEvents
from .text import Text
from .vercel import Vercel

ENTRY_POINT_GROUP = "sidestream.adapters"
BUILT_IN: dict[str, Callable[..., Any]] = {
    "events": Events,
    "ag-ui": AgUi,
    "anthropic": Anthropic,
    "claude-agent": ClaudeAgent,
    "google": Google,
    "google-adk": GoogleAdk,
    "json": any_json,
    "langgraph": LangGraph,
    "mistral": Mistral,
    "openai-agents": OpenAIAgents,
    "openai-chat": OpenAIChat,
    "openai-responses": OpenAIResponses,
    "sse": ServerSentEvents,
    "text": Text,
    "vercel": Vercel,
}
"""Built-in adapters, in the order of their calls to `recognizes`."""


# --- look-up by name -----------------------------------------------------------------------------------------------


def available_adapters() -> list[str]:
    """Names of the built-in and installed adapters, sorted."""
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))})


def adapter_of(choice: str | Adapter | type[Adapter] | None) -> Adapter:
    """Return the adapter for `choice`: a name, an adapter, or None for a choice by the items.

    Raises `ConfigurationError` if no adapter has the name, or the adapter is not callable.
    """
    if choice is None:
        return ByItem((*_installed(), *BUILT_IN.values()))
    if not isinstance(choice, str):
        if not callable(choice):
            raise ConfigurationError(f"adapter={choice!r}: give a name, or a function (item, record)")
        return _instance(choice)
    if choice in BUILT_IN:
        return _instance(BUILT_IN[choice])
    entry = next((entry for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.name == choice), None)
    if entry is None:
        installed = ", ".join(available_adapters())
        raise ConfigurationError(f"adapter={choice!r}: unknown adapter; available are: {installed}")
    try:
        return _instance(entry.load())
    except ImportError as error:
        raise ConfigurationError(f"adapter={choice!r}: it is installed but does not import: {error}") from error


@cache
def _installed() -> list[Callable[..., Any]]:
    """Installed adapters with `recognizes`. An adapter that fails to import is logged and left out."""
    found = []
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            adapter = entry.load()
        except Exception as error:
            warn_once("adapter left out, it does not import", entry.name, adapter=entry.name, reason=str(error))
            continue
        if hasattr(adapter, "recognizes"):
            found.append(adapter)
    return found


def _instance(adapter: Callable[..., Any]) -> Adapter:
    made: Adapter = adapter() if isinstance(adapter, type) else adapter
    return made
