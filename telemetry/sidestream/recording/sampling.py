"""Head sampling: the decision at the start of a trace whether to keep it.

Samplers, names and arithmetic are those of OpenTelemetry's SDK, so that the spans of the application and of Sidestream
are sampled together.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import TypeAlias

from sidestream.diagnostics import warn_once
from sidestream.errors import ConfigurationError

HeadSampler: TypeAlias = Callable[[str, bool | None], bool]
"""Function of a trace id (32 hex digits) and the parent's sampling decision (None: no parent)."""


def always(trace_id: str, parent_sampled: bool | None) -> bool:
    """Keep every trace."""
    return True


def never(trace_id: str, parent_sampled: bool | None) -> bool:
    """Drop every trace."""
    return False


def head_sampler(environment: Mapping[str, str] | None = None) -> HeadSampler:
    """Make the sampler configured by `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.

    `always_on`, `always_off`, `traceidratio` (argument: the ratio of kept traces from 0 to 1, default 1), and each of
    them prefixed with `parentbased_`, which follows the parent's decision first. Default: `parentbased_always_on`.
    (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/)

    The specified `jaeger_remote` and `xray` are not implemented: the default is used instead, with a logged warning.

    Args:
        environment: Mapping that holds the variables; default `os.environ`.

    Raises:
        ConfigurationError: unknown sampler, or an argument outside of 0 to 1.
    """
    environment = os.environ if environment is None else environment
    name = environment.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    kind = name.removeprefix("parentbased_")
    if kind in ("jaeger_remote", "xray"):
        warn_once("sampler not implemented, parentbased_always_on is used", name, OTEL_TRACES_SAMPLER=name)
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
    """Keep the ratio `share` (0 to 1) of all traces, identical in every process."""
    bound = round(share * 2**64)
    return lambda trace_id, parent_sampled: int(trace_id[-16:], 16) < bound


def parent_based(root: HeadSampler) -> HeadSampler:
    """Follow the parent's decision; use `root` without a parent."""
    return lambda trace_id, parent: root(trace_id, None) if parent is None else parent


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise ConfigurationError(f"OTEL_TRACES_SAMPLER_ARG={text!r}: must be a share from 0 to 1, such as 0.1")
    return share
