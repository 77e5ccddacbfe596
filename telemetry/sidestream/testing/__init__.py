"""Testing tools: pytest fixtures, a model that answers from a log, and a test kit for adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapters import events_of, outline
    from .differences import RequestDiffers
    from .model_from_log import ModelFromLog

__all__ = ["ModelFromLog", "RequestDiffers", "events_of", "outline"]

_HOMES = {
    "ModelFromLog": "model_from_log",
    "RequestDiffers": "differences",
    "events_of": "adapters",
    "outline": "adapters",
}


def __getattr__(name: str) -> Any:
    # Lazy, since pytest imports this package for the plugin in every environment: the import must stay cheap.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
