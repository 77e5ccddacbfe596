"""Settings from environment variables: whether to observe, and with which exporters."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from .diagnostics import warn, warn_once
from .errors import ConfigurationError
from .pipeline.companions import ReadsLog, connect
from .pipeline.exporter import Exporter
from .pipeline.registry import available_exporters, check_exporter, make_exporter, shown, split_specs

DEFAULT_EXPORTERS = "console,jsonl:runs/"


def is_disabled() -> bool:
    """Whether `SIDESTREAM_DISABLED` (1, true, yes or on) turns observation off. Any other value but a no is logged."""
    value = os.environ.get("SIDESTREAM_DISABLED", "").strip().lower()
    if value not in ("", "0", "1", "false", "true", "no", "yes", "off", "on"):
        warn_once("SIDESTREAM_DISABLED is neither 1 nor 0, and is ignored")
    return value in ("1", "true", "yes", "on")


def exporters_from_environment() -> list[str]:
    """Exporter specs in `SIDESTREAM_EXPORTERS`, or the default ones; empty for `none`."""
    specs = split_specs(os.environ.get("SIDESTREAM_EXPORTERS", "").strip() or DEFAULT_EXPORTERS)
    return [] if specs == ["none"] else specs


def exporters_of(items: Sequence[Exporter | str]) -> list[Exporter]:
    """Exporters made from `items`; from the environment if `items` is empty.

    Empty if the only item is `none`, or if `SIDESTREAM_DISABLED` is set.

    Raises:
        ConfigurationError: an exporter cannot work.
    """
    if is_disabled() or list(items) == ["none"]:
        return []
    made = [exporter_of(item) for item in items or exporters_from_environment()]
    connect(made)
    return made


def exporter_of(item: Exporter | str) -> Exporter:
    """The exporter `item`, or an exporter made from the spec `item`. Raises `ConfigurationError` if it cannot work."""
    if not isinstance(item, str):
        return check_exporter(item, repr(item))
    several = [each.strip() for each in item.split(",")]
    if len(several) > 1 and {each.partition(":")[0] for each in several} <= set(available_exporters()):
        one_by_one = ", ".join(repr(shown(each)) for each in several)
        raise ConfigurationError(f"exporter {shown(item)!r}: several exporters; give them one by one: {one_by_one}")
    return make_exporter(item)


def exporters_that_work(specs: Iterable[str]) -> list[Exporter]:
    """Exporters made from `specs` for a program that must run anyway: faulty ones are logged and left out."""
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
