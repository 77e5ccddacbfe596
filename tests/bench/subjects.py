"""Subjects of the benchmarks: Sidestream, and other observers of pydantic-ai. None sends data off this machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .sink import Sink

NOBODY = "http://127.0.0.1:9"
"""URL of an endpoint where no server listens."""


@dataclass(frozen=True)
class Subject:
    """One measured observer of agents."""

    describe: str
    attach: Callable[[Any], Any]
    """Attach the observer to an agent; returns the agent."""
    settle: Callable[[], object] = lambda: None
    """Wait until all recorded data is delivered."""
    exported_bytes: Callable[[], int | None] = lambda: None
    """Bytes delivered so far; None if unknown."""
    switch: Callable[[bool], object] = lambda on: None
    """Switch of an observer for a whole process: on before an observed run, off before a bare one."""
    close: Callable[[], object] = lambda: None
    sidecar: Any = None
    """Sidecar of Sidestream's subjects, for its statistics."""


def bare(folder: Path) -> Subject:
    return Subject("pydantic-ai alone", lambda agent: agent)


def pass_through(folder: Path) -> Subject:
    """Capability with the hooks of Sidestream's that do nothing: the cost of a capability in pydantic-ai."""
    from sidestream.sources.pydantic_ai.attach import attach

    from .passing import PassThrough

    def attached(agent: Any) -> Any:
        attach(agent, PassThrough())  # type: ignore[arg-type]  # everywhere else a sidecar's observer is attached
        return agent

    return Subject("a capability that passes everything through", attached)


# --- Sidestream ----------------------------------------------------------------------------------------------------


def sidestream(folder: Path) -> Subject:
    """Sidestream with all four exporters, whose servers are available."""
    sink = Sink()
    return _sidecar(folder, [*_local(), f"otlp:{sink.url}", "prometheus:0"], close=sink.close)


def sidestream_jsonl(folder: Path) -> Subject:
    return _sidecar(folder, [])


def sidestream_collect(folder: Path) -> Subject:
    """Row 3: Sidestream with the JSONL exporter, and a collector process that exports the log."""
    sink = Sink()
    return _sidecar(folder, [f"collect:?otlp={sink.url}&prometheus=:0&linger=0&patience=0"], close=sink.close)


def sidestream_hanging(folder: Path) -> Subject:
    """Sidestream with all four exporters, no OTLP server, and a fifth exporter whose first call never returns."""
    return _sidecar(folder, [*_local(), f"otlp:{NOBODY}", "prometheus:0", hanging_exporter()], waits=False)


def _local() -> list[Any]:
    from sidestream_exporters import ConsoleExporter

    nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, for as long as the process
    return [ConsoleExporter(stream=nowhere)]


def _sidecar(
    folder: Path, more: Sequence[Any], *, waits: bool = True, close: Callable[[], object] = lambda: None
) -> Subject:
    from sidestream import Sidecar
    from sidestream_exporters import JSONLExporter

    sidecar = Sidecar(JSONLExporter(folder / "runs"), *more, close_timeout=1.0)
    names = ", ".join([*sidecar.stats().exporters])
    return Subject(
        f"exporters {names}",
        sidecar.observe,
        settle=lambda: sidecar.flush(10.0) if waits else None,
        exported_bytes=lambda: sum(path.stat().st_size for path in (folder / "runs").glob("*.jsonl")),
        close=lambda: (sidecar.close(), close()),
        sidecar=sidecar,
    )


def hanging_exporter() -> Any:
    from sidestream import Exporter

    class Hanging(Exporter):
        name = "hanging"

        def export(self, events: Sequence[Any]) -> None:
            threading.Event().wait()

    return Hanging()


# --- others --------------------------------------------------------------------------------------------------------


def instrumentation(folder: Path) -> Subject:
    """pydantic-ai's Instrumentation, with spans in memory."""
    provider, exporter = _in_memory_provider()
    return _instrumented(provider, f"pydantic-ai {version('pydantic-ai-slim')}, spans in memory", exporter)


def openinference(folder: Path) -> Subject:
    from openinference.instrumentation.pydantic_ai import OpenInferenceSpanProcessor  # type: ignore[import-not-found,unused-ignore]

    provider, exporter = _in_memory_provider(OpenInferenceSpanProcessor())
    return _instrumented(provider, _release("openinference-instrumentation-pydantic-ai"), exporter)


def logfire(folder: Path) -> Subject:
    """Logfire, configured to send and print nothing, with spans in memory."""
    import logfire
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    logfire.configure(
        send_to_logfire=False, console=False, additional_span_processors=[SimpleSpanProcessor(exporter)], metrics=False
    )

    def attach(agent: Any) -> Any:
        logfire.instrument_pydantic_ai(agent)
        return agent

    return Subject(_release("logfire"), attach, exported_bytes=_SpanBytes(exporter))


def langfuse(folder: Path) -> Subject:
    """Langfuse, whose host is unavailable."""
    from langfuse import Langfuse  # type: ignore[import-not-found,unused-ignore]
    from opentelemetry.trace import get_tracer_provider

    client = Langfuse(public_key="pk-lf-0", secret_key="sk-lf-0", host=NOBODY)
    return _instrumented(get_tracer_provider(), f"{_release('langfuse')}, host down", close=client.shutdown)


def mlflow(folder: Path) -> Subject:
    import mlflow  # type: ignore[import-not-found,unused-ignore]

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("bench", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("bench")
    return Subject(
        _release("mlflow"),
        lambda agent: agent,
        settle=mlflow.flush_trace_async_logging,
        switch=lambda on: mlflow.pydantic_ai.autolog(disable=not on),
    )


def _in_memory_provider(*processors: Any) -> tuple[Any, Any]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider, exporter = TracerProvider(), InMemorySpanExporter()
    for processor in (*processors, SimpleSpanProcessor(exporter)):
        provider.add_span_processor(processor)
    return provider, exporter


def _instrumented(
    provider: Any, describe: str, exporter: Any = None, close: Callable[[], object] = lambda: None
) -> Subject:
    from pydantic_ai.models.instrumented import InstrumentationSettings

    def attach(agent: Any) -> Any:
        agent.instrument = InstrumentationSettings(tracer_provider=provider)
        return agent

    size: Callable[[], int | None] = (lambda: None) if exporter is None else _SpanBytes(exporter)
    return Subject(describe, attach, exported_bytes=size, close=close)


class _SpanBytes:
    """Estimated bytes of the spans so far, from their attributes as text. Clears the counted spans."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter
        self._total = 0

    def __call__(self) -> int:
        for span in self._exporter.get_finished_spans():
            self._total += sum(len(str(value)) for value in span.attributes.values())
        self._exporter.clear()
        return self._total


def _release(name: str) -> str:
    return f"{name} {version(name)}"


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        *(bare, pass_through, sidestream, sidestream_jsonl, sidestream_collect, sidestream_hanging),
        *(instrumentation, openinference, logfire, langfuse, mlflow),
    )
}
