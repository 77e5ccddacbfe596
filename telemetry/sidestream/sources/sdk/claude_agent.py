"""Claude Agent SDK: each `query()`, and each `receive_response()` of a client, is a run read from its messages."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from sidestream.sources.adapters.claude_agent import ClaudeAgent
from sidestream.sources.adapters.fields import field

from .agent_streams import RunFacts, observed_stream
from .calls import Observation
from .patching import Patches

NAME = "claude"
"""Agent name of the runs, because the SDK's agents have no names."""
ASKED = "_sidestream_prompt"
"""Attribute of a client that holds its last prompt."""


def patch_query(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe the implementation of `query()`, which also covers `query` imported by name earlier."""
    patches.wrap(
        module.InternalClient,
        "process_query",
        lambda original: observed_stream(original, observation, ClaudeAgent, _about_query),
    )


def patch_client(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe the client for conversations."""

    def asking(original: Any) -> Callable[..., Any]:
        async def query(self: Any, *args: Any, **kwargs: Any) -> Any:
            self.__dict__[ASKED] = args[0] if args else kwargs.get("prompt")
            return await original(self, *args, **kwargs)

        return query

    patches.wrap(module.ClaudeSDKClient, "query", asking)
    patches.wrap(
        module.ClaudeSDKClient,
        "receive_response",
        lambda original: observed_stream(original, observation, ClaudeAgent, _about_response),
    )


def _about_query(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RunFacts:
    prompt = args[0] if args else kwargs.get("prompt")
    options = args[1] if len(args) > 1 else kwargs.get("options")
    resumed = field(options, "resume")
    return RunFacts(NAME, prompt if isinstance(prompt, str) else None, resumed if isinstance(resumed, str) else None)


def _about_response(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RunFacts:
    prompt = vars(client).pop(ASKED, None)
    return RunFacts(NAME, prompt if isinstance(prompt, str) else None)
