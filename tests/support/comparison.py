"""Results of a caller in a form that allows the comparison of two runs."""

from __future__ import annotations

import dataclasses
import re
from enum import Enum
from typing import Any

_MADE_FOR_THE_RUN = re.compile(r"pyd_ai_[0-9a-f]{32}|0x[0-9a-f]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIMES = {"timestamp", "duration"}


def plain(value: Any, names: dict[str, str]) -> Any:
    """Plain data with types, in which ids and times of this run are replaced by their order of appearance."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return _MADE_FOR_THE_RUN.sub(lambda match: names.setdefault(match[0], f"name-{len(names)}"), value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {name: item for name, item in vars(value).items() if not name.startswith("_")}
        return type(value).__qualname__, {
            name: type(item).__name__ if name in _TIMES else plain(item, names) for name, item in fields.items()
        }
    if isinstance(value, dict):
        return {plain(k, names): type(v).__name__ if k in _TIMES else plain(v, names) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, names) for item in value]
    if hasattr(value, "model_dump"):
        return type(value).__qualname__, plain(value.model_dump(), names)
    return repr(value)


def chain(error: BaseException | None, names: dict[str, str]) -> list[Any]:
    """Exception and its causes: types, texts, members of a group, and attributes."""
    told: list[Any] = []
    seen: list[BaseException] = []
    while error is not None:
        if error in seen:  # since Python 3.13, a generator closed elsewhere may leave a cyclic chain
            told.append(("back to", seen.index(error)))
            break
        seen.append(error)
        carried = {name: item for name, item in vars(error).items() if not name.startswith("__")}
        members = [chain(each, names) for each in error.exceptions] if isinstance(error, BaseExceptionGroup) else []
        told.append((type(error).__qualname__, plain(str(error), names), plain(carried, names), members))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return told
