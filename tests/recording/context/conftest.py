"""Application with its own OpenTelemetry setup, and a sidecar that exports spans."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from sidestream import Sidecar
from tests.support.application_spans import Application, SpanExporter

os.environ["PYDANTIC_AI_NO_BANNER"] = "1"


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """OpenTelemetry logs an error if a context token is reset in another context."""
    with caplog.at_level(logging.WARNING):
        yield
    assert [record.getMessage() for record in caplog.records if record.name.startswith("opentelemetry")] == []


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[SpanExporter]:
    """Exporter of spans that keeps the exported events."""
    for name in ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "TRACEPARENT"):
        monkeypatch.delenv(name, raising=False)
    exporter = SpanExporter()
    with Sidecar(exporter) as sidecar:
        exporter.sidecar = sidecar
        yield exporter
    assert sidecar.stats().recording_errors == 0
