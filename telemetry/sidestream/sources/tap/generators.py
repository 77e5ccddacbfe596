"""State of generators: whether one has begun."""

from __future__ import annotations

import dis
import inspect
from types import AsyncGeneratorType, GeneratorType
from typing import Any

_RETURN_GENERATOR = dis.opmap["RETURN_GENERATOR"]


def not_begun(stream: AsyncGeneratorType[Any, Any] | GeneratorType[Any, Any, Any]) -> bool:
    """Returns True while no line of the generator's body has run."""
    if isinstance(stream, GeneratorType):
        return inspect.getgeneratorstate(stream) == inspect.GEN_CREATED
    if hasattr(inspect, "getasyncgenstate"):  # Python 3.12
        return bool(inspect.getasyncgenstate(stream) == "AGEN_CREATED")
    frame = stream.ag_frame
    return frame is not None and frame.f_code.co_code[frame.f_lasti] == _RETURN_GENERATOR
