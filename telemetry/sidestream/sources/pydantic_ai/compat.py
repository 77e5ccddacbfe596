"""Private names of pydantic-ai that the observer uses: one function each, and a probe with what is lost without it.

Every function works where its name is gone, with the loss that the name's probe states, except `root_of` and
`set_root`, without which no existing agent can be observed: those raise.
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
"""Lists of a root capability that a run reads its hooks from. Releases from 2.63 on dispatch from the second, which is
derived from the first when the root is made."""


class SafeAtRuntime:
    """Mark of a capability that durable execution admits at run time; it refuses capabilities without the mark."""

    _safe_at_runtime: ClassVar[bool] = True


# --- an agent's root capability --------------------------------------------------------------------------------------


def unwrapped(agent: Any) -> Any:
    """The agent inside all `WrapperAgent`s."""
    while (wrapped := getattr(agent, "wrapped", None)) is not None:
        agent = wrapped
    return agent


def owns_root(agent: Any) -> bool:
    """Whether `agent` holds its root capability itself, so that `set_root` replaces it."""
    return hasattr(agent, "_root_capability")


def has_root(agent: Any, root: Any) -> bool:
    """Whether `root` is the very object that `agent` holds as its root capability."""
    return getattr(agent, "_root_capability", None) is root


def set_root(agent: Any, root: Any) -> None:
    """Replace the root capability of an unwrapped agent, from its next run on."""
    agent._root_capability = root


def effective_root(agent: Any) -> Any:
    """Root capability of an unwrapped agent in this context: that of an `override(spec=…)`, if there is one."""
    effective = getattr(agent, "_effective_root_capability", None)
    return agent.root_capability if effective is None else effective()


def hook_lists(root: Any) -> Iterator[tuple[str, Any]]:
    """The lists of `root` that hold its capabilities, by the attribute's name."""
    for name in _HOOK_LISTS:
        if hasattr(root, name):
            yield name, getattr(root, name)


# --- a request ---

PREPARES_WITHIN_REQUEST = hasattr(ModelRequestNode, "_apply_before_model_request")
"""Whether history processors and other hooks prepare a request within `wrap_model_request`, and not before it."""


def current_run_context() -> Any:
    """The context of the run that a model is asked by; None outside of one."""
    try:
        from pydantic_ai._run_context import get_current_run_context
    except ImportError:
        return None
    return get_current_run_context()


# --- a run and its stream --------------------------------------------------------------------------------------------


def own_limit_expired(ctx: Any) -> bool:
    """Whether the run of the `RunContext` was cancelled by its own `timeout`."""
    return bool(getattr(getattr(ctx, "_cancellation", None), "timed_out", False))


def stream_events_class() -> Any:
    """The class of the context that `run_stream_events()` returns; None where it has another name."""
    return getattr(abstract, "_RunStreamEventsContext", None)


def run_id_of(stream_events: Any) -> str | None:
    """Id of the run behind an instance of `stream_events_class()`; None before it has begun."""
    binding = getattr(getattr(stream_events, "_iterator", None), "_binding", None)
    return getattr(getattr(binding, "agent_run", None), "run_id", None)


def infer_name(agent: Any, frame: FrameType) -> None:
    """Name a nameless agent after the variable that holds it in the caller of `frame`."""
    infer = getattr(agent, "_infer_name", None)
    if infer is not None and agent.name is None:
        infer(frame)


def is_library_frame(trace: TracebackType) -> bool:
    """Whether the code of pydantic-ai itself runs in the frame of `trace`."""
    return str(trace.tb_frame.f_globals.get("__name__", "")).startswith(_LIBRARY)


def is_at_yield(trace: TracebackType) -> bool:
    """Whether the frame of `trace` stands at a `yield`, by its source text: its caller's code was running."""
    return linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno).lstrip().startswith("yield")


def wrap_event_iterator(stream: Any, wrap: Callable[[Any], Any]) -> None:
    """Have the events of a `StreamedResponse`, once somebody asks for them, pass through what `wrap` makes of them."""
    events = getattr(stream, "_get_event_iterator", None)
    if events is not None:
        stream._get_event_iterator = lambda: wrap(events())


# --- probes ----------------------------------------------------------------------------------------------------------


def probes() -> list[Probe]:
    """One probe for each private name, against the installed version."""
    from pydantic_ai import direct

    context, events = stream_events_class(), abstract.__dict__.get("AgentRunEvents")
    return [
        Probe("Agent._root_capability", _replaces_root(), "agents that exist already cannot be observed"),
        Probe("CombinedCapability._dispatch", _knows_hook_lists(), "observed agents may not tell their runs"),
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
            "streams of pydantic_ai.direct are told without their texts and times",
        ),
        Probe(
            "pydantic_ai.direct._prepare_model",
            hasattr(direct, "_prepare_model"),
            "calls of models without an agent are told by the provider's SDK alone",
        ),
        Probe(
            "source text of pydantic_ai",
            bool(linecache.getline(abstract.__file__, 1)),
            "what a caller raises inside run_stream() or iter() reads as the run's own error",
        ),
    ]


def warn_of_missing() -> None:
    """Warn, once a process, of each private name that pydantic-ai or Python does not have in the installed version."""
    warn_missing("pydantic-ai", probes)
    warn_missing("the standard library", stdlib_compat.probes)


def _replaces_root() -> bool:
    # Not a made agent: under `install()` making one would attach an observer to it.
    agent: Any = object.__new__(Agent)
    root = CombinedCapability[Any]([])
    set_root(agent, root)
    return agent.root_capability is root


def _knows_hook_lists() -> bool:
    # A third list would hide the observer from runs. `_instruction_sources` may: the observer has no instructions.
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
    """Capability without hooks, to see where a root capability keeps its members."""
