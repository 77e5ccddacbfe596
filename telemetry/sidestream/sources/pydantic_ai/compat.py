"""Private names of pydantic-ai: one function for each, and a probe that states the loss without the name.

Every function works without its name, with the loss that the probe states.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, ClassVar

from pydantic_ai import Agent, ModelRequestNode
from pydantic_ai.agent import abstract
from pydantic_ai.capabilities import AbstractCapability, CombinedCapability
from pydantic_ai.models import StreamedResponse
from pydantic_ai.tools import RunContext

from sidestream import stdlib_compat
from sidestream.diagnostics import Probe, warn_missing

_LIBRARY = ("pydantic_ai", "pydantic_graph")
_HOOK_LISTS = ("capabilities", "_dispatch")
"""Attributes of a root capability from which a run reads its hooks. Since 2.63, runs use `_dispatch`, derived from"""


class SafeAtRuntime:
    """Marker for durable execution, which refuses unmarked capabilities at run time."""

    _safe_at_runtime: ClassVar[bool] = True


# --- an agent's root capability --------------------------------------------------------------------------------------


def unwrapped(agent: Any) -> Any:
    """Agent inside all `WrapperAgent`s."""
    while (wrapped := getattr(agent, "wrapped", None)) is not None:
        agent = wrapped
    return agent


def owns_root(agent: Any) -> bool:
    """Whether `agent` holds its own root capability, which `set_root` can replace."""
    return hasattr(agent, "_root_capability")


def has_root(agent: Any, root: Any) -> bool:
    """Whether `root` is the root capability object of `agent`."""
    return getattr(agent, "_root_capability", None) is root


def set_root(agent: Any, root: Any) -> None:
    """Replace the root capability of an unwrapped agent, from its next run on."""
    agent._root_capability = root


def effective_root(agent: Any) -> Any:
    """Root capability of an unwrapped agent in the current context: that of an `override(spec=…)`, if active."""
    effective = getattr(agent, "_effective_root_capability", None)
    return agent.root_capability if effective is None else effective()


def hook_lists(root: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of the attributes of `root` that list its capabilities."""
    for name in _HOOK_LISTS:
        if hasattr(root, name):
            yield name, getattr(root, name)


# --- a request ---

PREPARES_WITHIN_REQUEST = hasattr(ModelRequestNode, "_apply_before_model_request")
"""Whether hooks such as history processors prepare a request inside `wrap_model_request`, rather than before."""


def current_run_context() -> Any:
    """Context of the run that makes the current model request; None outside of a run."""
    try:
        from pydantic_ai._run_context import get_current_run_context
    except ImportError:
        return None
    return get_current_run_context()


# --- a run and its stream --------------------------------------------------------------------------------------------


def own_limit_expired(ctx: Any) -> bool:
    """Whether the run's own `timeout` cancelled the run."""
    return bool(getattr(getattr(ctx, "_cancellation", None), "timed_out", False))


def stream_events_class() -> Any:
    """Class of the context manager returned by `run_stream_events()`; None if the name does not exist."""
    return getattr(abstract, "_RunStreamEventsContext", None)


def run_id_of(stream_events: Any) -> str | None:
    """Id of the run behind an instance of `stream_events_class()`; None before the start of the run."""
    binding = getattr(getattr(stream_events, "_iterator", None), "_binding", None)
    return getattr(getattr(binding, "agent_run", None), "run_id", None)


def infer_name(agent: Any, frame: FrameType) -> None:
    """Name an unnamed agent after the variable that holds it in the caller of `frame`."""
    infer = getattr(agent, "_infer_name", None)
    if infer is not None and agent.name is None:
        infer(frame)


def is_library_frame(trace: TracebackType) -> bool:
    """Whether the frame of `trace` executes code of pydantic-ai."""
    return str(trace.tb_frame.f_globals.get("__name__", "")).startswith(_LIBRARY)


def is_at_yield(trace: TracebackType) -> bool:
    """Whether the frame of `trace` is at a `yield`, according to its source text."""
    return linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno).lstrip().startswith("yield")


def wrap_event_iterator(stream: Any, wrap: Callable[[Any], Any]) -> None:
    """Pass the events of a `StreamedResponse` through `wrap`, once they are iterated."""
    events = getattr(stream, "_get_event_iterator", None)
    if events is not None:
        stream._get_event_iterator = lambda: wrap(events())


# --- probes ----------------------------------------------------------------------------------------------------------


def probes() -> list[Probe]:
    """Probes of all private names in the installed version."""
    from pydantic_ai import direct

    context, events = stream_events_class(), abstract.__dict__.get("AgentRunEvents")
    return [
        Probe("Agent._root_capability", _replaces_root(), "existing agents cannot be observed"),
        Probe("CombinedCapability._dispatch", _knows_hook_lists(), "runs of observed agents may not be recorded"),
        Probe(
            "Agent._effective_root_capability",
            hasattr(Agent, "_effective_root_capability"),
            "run_stream() under override(spec=…) misses the run",
        ),
        Probe(
            "AbstractCapability._safe_at_runtime",
            hasattr(AbstractCapability, "_safe_at_runtime"),
            "durable execution may refuse observed agents",
        ),
        Probe(
            "RunContext._cancellation",
            "_cancellation" in getattr(RunContext, "__dataclass_fields__", {}),
            "a run's own timeout reads as cancelled",
        ),
        Probe(
            "_RunStreamEventsContext",
            context is not None and "__aexit__" in vars(context),
            "a consumer that leaves run_stream_events() in mid-event reads as cancelled",
        ),
        Probe(
            "AgentRunEvents._binding",
            context is not None and events is not None and _binds(context, events),
            "a consumer that leaves run_stream_events() in mid-event reads as cancelled",
        ),
        Probe(
            "Agent._infer_name", hasattr(Agent, "_infer_name"), "agents without a name stay nameless in run_stream()"
        ),
        Probe(
            "StreamedResponse._get_event_iterator",
            hasattr(StreamedResponse, "_get_event_iterator"),
            "streams of pydantic_ai.direct are recorded without texts and times",
        ),
        Probe(
            "pydantic_ai.direct._prepare_model",
            hasattr(direct, "_prepare_model"),
            "model calls without an agent are recorded by the provider's SDK only",
        ),
        Probe(
            "source text of pydantic_ai",
            bool(linecache.getline(abstract.__file__, 1)),
            "what a caller raises inside run_stream() or iter() reads as the run's own error",
        ),
    ]


def warn_of_missing() -> None:
    """Log a warning, once per process, for each missing private name of pydantic-ai and the standard library."""
    warn_missing("pydantic-ai", probes)
    warn_missing("the standard library", stdlib_compat.probes)


def _replaces_root() -> bool:
    # Avoid the constructor: under `install()`, a constructed agent would be observed.
    agent: Any = object.__new__(Agent)
    root = CombinedCapability[Any]([])
    set_root(agent, root)
    return agent.root_capability is root


def _knows_hook_lists() -> bool:
    # A third list might hide the observer from runs. `_instruction_sources` is harmless: the observer has no
    # instructions.
    member = _Member()
    lists = [
        name
        for name, value in vars(CombinedCapability[Any]([member])).items()
        if isinstance(value, list | tuple) and any(each is member for each in value)
    ]
    return "capabilities" in lists and set(lists) <= {*_HOOK_LISTS, "_instruction_sources"}


def _binds(context: Any, events: Any) -> bool:
    made, never_run = context(None), events(None)
    return hasattr(made, "_iterator") and hasattr(getattr(never_run, "_binding", None), "agent_run")


class _Member(AbstractCapability[Any]):
    """Capability without hooks, for finding the attributes that list the members of a root capability."""
