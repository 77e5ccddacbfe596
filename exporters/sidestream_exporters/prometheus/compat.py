"""Private names of prometheus_client that the exporter uses, with a probe for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Any, cast

from prometheus_client import metrics, utils, values
from prometheus_client.core import Metric as Family
from prometheus_client.samples import Sample

from sidestream.diagnostics import Probe


def keeps_files() -> bool:
    """Whether prometheus_client stores values in PROMETHEUS_MULTIPROC_DIR, which the library decides at import."""
    return bool(getattr(getattr(values, "ValueClass", None), "_multiprocess", False))


def value_cell(
    kind: str, family: str, sample: str, names: Sequence[str], texts: Sequence[str], help: str, **mode: str
) -> Any:
    """Value cell (`inc`, `set`) of one time series, created as the library's own metrics create theirs."""
    return values.ValueClass(kind, family, sample, names, texts, help, **mode)


def bound_text(bound: float) -> str:
    """Bucket bound in the library's format of the label `le`."""
    write = getattr(utils, "floatToGoString", None)
    return str(write(bound)) if write is not None else "+Inf" if bound == inf else repr(bound)


def set_samples(family: Family, samples: Iterable[Sample]) -> None:
    """Set a lazy iterable as the samples of `family`: building thousands at once would hold the GIL too long."""
    family.samples = cast(list[Sample], samples)


def wants_created() -> bool:
    """Whether `_created` samples are enabled (`PROMETHEUS_DISABLE_CREATED_SERIES`, `disable_created_metrics()`)."""
    return bool(getattr(metrics, "_use_created", True))


def probes() -> list[Probe]:
    """Probes of the installed version, one for each private name."""
    cell = getattr(values, "ValueClass", None)
    return [
        Probe("values.ValueClass", hasattr(cell, "_multiprocess"), "processes cannot share PROMETHEUS_MULTIPROC_DIR"),
        Probe("metrics._use_created", hasattr(metrics, "_use_created"), "`_created` cannot be turned off"),
        Probe("utils.floatToGoString", hasattr(utils, "floatToGoString"), "`le` may differ from the library's own"),
        Probe("Metric.samples", isinstance(getattr(Family("probe", "", "gauge"), "samples", None), list), "no metrics"),
    ]
