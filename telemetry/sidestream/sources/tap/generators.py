"""Inspection of generators: whether execution has started, and whose code it is."""

from __future__ import annotations

import dis
import inspect
from types import AsyncGeneratorType, GeneratorType
from typing import Any

_RETURN_GENERATOR = dis.opmap["RETURN_GENERATOR"]

_OF_SDKS = ("claude_agent_sdk.", "google.", "langchain_core.", "langgraph.", "litellm.", "sidestream.sources.sdk.")
"""Prefixes of module names whose generators are streams of models or agents."""


def is_of_sdk(stream: AsyncGeneratorType[Any, Any] | GeneratorType[Any, Any, Any]) -> bool:
    """Whether the body of the generator is an SDK's code, and not the application's."""
    frame = stream.gi_frame if isinstance(stream, GeneratorType) else stream.ag_frame
    return frame is not None and str(frame.f_globals.get("__name__")).startswith(_OF_SDKS)


def not_begun(stream: AsyncGeneratorType[Any, Any] | GeneratorType[Any, Any, Any]) -> bool:
    """Whether the execution of the generator's body has not started."""
    if isinstance(stream, GeneratorType):
        return inspect.getgeneratorstate(stream) == inspect.GEN_CREATED
    if hasattr(inspect, "getasyncgenstate"):  # Python 3.12
        return bool(inspect.getasyncgenstate(stream) == "AGEN_CREATED")
    frame = stream.ag_frame
    return frame is not None and frame.f_code.co_code[frame.f_lasti] == _RETURN_GENERATOR
