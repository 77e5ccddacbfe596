"""Running a logged run again with an unchanged program: the log answers for the model of every agent in the process."""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any, Literal

import msgspec

from sidestream.import_hook import ImportHook

KEYS = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "google": "GOOGLE_API_KEY",
    "groq": "GROQ_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "cohere": "CO_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "xai": "XAI_API_KEY",
}
"""Variables that the clients of providers require, although no provider is called."""
NO_KEY = "answered-from-the-log"
AGENTS = "pydantic_ai.agent"


class Rerun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Selection of the run to run again, and how its models and tools answer."""

    paths: list[str]
    run: str
    strict: bool = True
    tools: Literal["run", "logged"] = "run"


def answer_every_agent(rerun: Rerun) -> None:
    """Let the log answer for every agent that the process creates. Call before pydantic-ai is imported."""

    @functools.cache
    def capability() -> Any:
        # Created with the first agent: earlier, pydantic-ai is still being imported.
        from sidestream.testing.model_from_log import FromLog, ModelFromLog

        return FromLog(ModelFromLog(rerun.paths, run=rerun.run, strict=rerun.strict, tools=rerun.tools))

    def wrap(module: ModuleType) -> None:
        agent_class: Any = vars(module)["Agent"]
        original = agent_class.__init__

        @functools.wraps(original)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            from sidestream.sources.pydantic_ai.attach import change_capabilities

            change_capabilities(self, lambda present: [*present, capability()])

        agent_class.__init__ = __init__

    if AGENTS in sys.modules:
        wrap(sys.modules[AGENTS])
    else:
        ImportHook({AGENTS: wrap}).enter()
