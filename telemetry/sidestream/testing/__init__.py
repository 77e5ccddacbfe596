"""Tools for testing code that uses Sidestream, and for running again what a log holds."""

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
    # The pytest plugin is loaded in every environment: importing this package must cost nothing.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
