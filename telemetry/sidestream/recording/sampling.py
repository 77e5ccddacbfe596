"""Which traces are kept: the decision that is taken where a trace begins.

The samplers, their names and their arithmetic are those of OpenTelemetry's SDK, so that an application's own spans and
Sidestream's are kept or let go together.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import TypeAlias

from sidestream.diagnostics import warn_once
from sidestream.errors import ConfigurationError

HeadSampler: TypeAlias = Callable[[str, bool | None], bool]
"""Takes a trace id (32 hex digits) and whether the parent span is sampled (None: there is no parent)."""


def always(trace_id: str, parent_sampled: bool | None) -> bool:
    """Keeps every trace."""
    return True


def never(trace_id: str, parent_sampled: bool | None) -> bool:
    """Keeps none."""
    return False


def head_sampler(environment: Mapping[str, str] | None = None) -> HeadSampler:
    """The sampler that `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` ask for.

    `always_on`, `always_off`, `traceidratio` (the argument is the share that is kept, from 0 to 1; without one, all),
    and each with `parentbased_` in front, which asks the parent first. Unset: `parentbased_always_on`.
    (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/)

    Args:
        environment: Where the variables are looked up: `os.environ`, unless given.

    `jaeger_remote` and `xray`, which the specification knows and this does not, are said and taken for unset.

    Raises:
        ConfigurationError: there is no such sampler, or the argument is not a share.
    """
    environment = os.environ if environment is None else environment
    name = environment.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    kind = name.removeprefix("parentbased_")
    if kind in ("jaeger_remote", "xray"):
        warn_once("sampler not implemented, parentbased_always_on is taken", name, OTEL_TRACES_SAMPLER=name)
        name, kind = "parentbased_always_on", "always_on"
    match kind:
        case "always_on":
            root: HeadSampler = always
        case "always_off":
            root = never
        case "traceidratio":
            root = by_trace_id(_share(environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"))
        case _:
            kinds = ("always_on", "always_off", "traceidratio")
            choices = ", ".join([*kinds, *(f"parentbased_{kind}" for kind in kinds)])
            raise ConfigurationError(f"OTEL_TRACES_SAMPLER={name!r}: choose {choices}")
    return root if kind == name else parent_based(root)


def by_trace_id(share: float) -> HeadSampler:
    """Keeps `share` (0 to 1) of all traces: always the same ones, in every process."""
    bound = round(share * 2**64)
    return lambda trace_id, parent_sampled: int(trace_id[-16:], 16) < bound


def parent_based(root: HeadSampler) -> HeadSampler:
    """As the parent was decided; `root` decides where there is none."""
    return lambda trace_id, parent: root(trace_id, None) if parent is None else parent


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise ConfigurationError(f"OTEL_TRACES_SAMPLER_ARG={text!r}: must be a share from 0 to 1, such as 0.1")
    return share
