"""Private names of SDKs used by their observers, with a probe for each installed SDK.

Probes search the source text of an SDK, because an import may take seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sidestream.diagnostics import Probe


class _Name(NamedTuple):
    """Private name, and the text that proves its existence in the source file."""

    library: str
    file: str
    """Path relative to the folder that holds the library's packages."""
    name: str
    text: str
    lost: str


_CALLS = "its calls are not recorded"
_STREAMS = "its streams are recorded without texts and usage"
_STAINLESS = ("openai", "anthropic", "groq")
_NAMES = [
    *(_Name(each, f"{each}/_base_client.py", "SyncAPIClient.request", "def request(", _CALLS) for each in _STAINLESS),
    *(_Name(each, f"{each}/_streaming.py", "Stream._iterator", "_iterator", _STREAMS) for each in _STAINLESS),
    _Name("google-genai", "google/genai/models.py", "Models._generate_content", "def _generate_content(", _CALLS),
    _Name(
        "google-genai", "google/genai/models.py", "Models._generate_content_stream", "def _generate_content_s", _CALLS
    ),
    _Name("mistralai", "mistralai/client/utils/eventstreaming.py", "EventStream.generator", "self.generator", _STREAMS),
    _Name("openai-agents", "agents/run.py", "AgentRunner", "class AgentRunner", "its runs are not recorded"),
    _Name(
        "openai-agents",
        "agents/result.py",
        "RunResultStreaming._stored_exception",
        "_stored_exception",
        "a streamed run that a guardrail ends reads as cancelled",
    ),
    _Name(
        "litellm",
        "litellm/litellm_core_utils/streaming_handler.py",
        "CustomStreamWrapper",
        "class CustomStreamWrapper",
        _STREAMS,
    ),
    _Name(
        "claude-agent-sdk",
        "claude_agent_sdk/_internal/client.py",
        "InternalClient.process_query",
        "def process_query(",
        "runs of query() are not recorded",
    ),
    _Name("langgraph", "langgraph/pregel/main.py", "Pregel", "class Pregel(", "its runs are not recorded"),
    _Name(
        "langchain-core",
        "langchain_core/tracers/context.py",
        "_configure_hooks",
        "_configure_hooks: ",
        "a hook without effect stays after uninstall()",
    ),
]


def exception_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Exception of a finished task, without marking the exception as retrieved in asyncio."""
    error = getattr(task, "_exception", None)
    return error if isinstance(error, BaseException) else None


def stored_exception(result: Any) -> BaseException | None:
    """Exception stored in a streamed result of the OpenAI Agents SDK for the reader of its events, or None."""
    error = getattr(result, "_stored_exception", None)
    return error if isinstance(error, BaseException) else None


def register_configure_hook(variable: ContextVar[Any]) -> Callable[[], None]:
    """Register `variable` as a source of callback handlers in LangChain. Returns a function that undoes this."""
    context = import_module("langchain_core.tracers.context")
    context.register_configure_hook(variable, inheritable=True)

    def undo() -> None:
        hooks = getattr(context, "_configure_hooks", [])
        hooks[:] = [hook for hook in hooks if hook[0] is not variable]

    return undo


def probes() -> list[Probe]:
    """Probes of all private names of the installed SDKs."""
    folders: dict[str, list[Path]] = {}
    found = []
    for name in _NAMES:
        package = name.file.partition("/")[0]
        if package not in folders:
            spec = find_spec(package)
            folders[package] = [Path(each).parent for each in (spec and spec.submodule_search_locations) or ()]
        if not any((folder / _home(name)).exists() for folder in folders[package]):
            continue
        texts = [file.read_text("utf-8") for folder in folders[package] if (file := folder / name.file).is_file()]
        holds = any(name.text in text for text in texts)
        found.append(Probe(f"{name.library}: {name.name}", holds, name.lost))
    return found


def _home(name: _Name) -> str:
    """Path that proves the installation of the library; other libraries may provide `google` or `agents` as well."""
    return {"google-genai": "google/genai", "openai-agents": "agents/run_config.py"}.get(
        name.library, name.file.partition("/")[0]
    )
