"""Settings from the environment: whether anything is observed at all, and by which exporters."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from .diagnostics import warn
from .errors import ConfigurationError
from .pipeline.companions import ReadsLog, connect
from .pipeline.exporter import Exporter
from .pipeline.registry import available_exporters, check_exporter, make_exporter, shown, split_specs

DEFAULT_EXPORTERS = "console,jsonl:runs/"


def is_disabled() -> bool:
    """Whether `SIDESTREAM_DISABLED` (1, true, yes or on) turns observation off."""
    return os.environ.get("SIDESTREAM_DISABLED", "").strip().lower() in ("1", "true", "yes", "on")


def exporters_from_environment() -> list[str]:
    """`SIDESTREAM_EXPORTERS`, as `split_specs` reads it; none for `none`."""
    specs = split_specs(os.environ.get("SIDESTREAM_EXPORTERS", "").strip() or DEFAULT_EXPORTERS)
    return [] if specs == ["none"] else specs


def exporters_of(items: Sequence[Exporter | str]) -> list[Exporter]:
    """The exporters that `items` are or describe, or the environment's where there are none.

    `none` alone is none, and so is all where `SIDESTREAM_DISABLED` asks for that.

    Raises:
        ConfigurationError: one of them cannot work.
    """
    if is_disabled() or list(items) == ["none"]:
        return []
    made = [exporter_of(item) for item in items or exporters_from_environment()]
    connect(made)
    return made


def exporter_of(item: Exporter | str) -> Exporter:
    """The exporter that `item` is or describes. Raises `ConfigurationError` where it cannot work."""
    if not isinstance(item, str):
        return check_exporter(item, repr(item))
    several = [each.strip() for each in item.split(",")]
    if len(several) > 1 and {each.partition(":")[0] for each in several} <= set(available_exporters()):
        one_by_one = ", ".join(repr(shown(each)) for each in several)
        raise ConfigurationError(f"exporter {shown(item)!r}: these are several; give them one by one: {one_by_one}")
    return make_exporter(item)


def exporters_that_work(specs: Iterable[str]) -> list[Exporter]:
    """The exporters of `specs`, for a program that must run whatever they are: a faulty one is logged, and left out."""
    made = []
    for spec in specs:
        try:
            made.append(exporter_of(spec))
        except Exception as error:
            warn("exporter left out", reason=str(error))
    try:
        connect(made)
    except ConfigurationError as error:
        warn("exporter left out", reason=str(error))
        made = [each for each in made if not isinstance(each, ReadsLog)]
    return made
