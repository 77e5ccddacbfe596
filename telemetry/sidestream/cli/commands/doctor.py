"""`sidestream doctor`: checks of exporters, endpoints and library internals on this machine."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

import msgspec
import typer

from sidestream.cli.options import AsJson
from sidestream.cli.rendering import write_line
from sidestream.errors import ConfigurationError, SidestreamError
from sidestream.pipeline.health import CheckResult, SupportsCheck
from sidestream.pipeline.registry import make_exporter, shown


def doctor(
    spec: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SPEC]...", help="Exporters, such as jsonl:runs/. Default: $SIDESTREAM_EXPORTERS."),
    ] = None,
    otlp: Annotated[
        str | None, typer.Option(metavar="URL", help="An OTLP endpoint, such as http://localhost:4318.")
    ] = None,
    prometheus: Annotated[
        int | None, typer.Option(metavar="PORT", help="Port on which a running program serves its metrics.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check exporters from this machine: settings, endpoints, and which content they would send.

    No data of runs is sent; an OTLP endpoint gets an empty request. The exit code is 1 if a check fails.

    Example:  sidestream doctor --otlp http://localhost:4318

    Example:  sidestream doctor jsonl:runs/ otlp prometheus:9464 --json
    """
    specs = [*(spec or ()), *([f"otlp:{otlp}"] if otlp else [])]
    if not specs and prometheus is None:
        from sidestream.settings import exporters_from_environment

        specs = exporters_from_environment()
    found = [(shown(each), check) for each in specs for check in _exporter(each)]
    if prometheus is not None:
        found.append((f"port {prometheus}", _metrics(f"http://127.0.0.1:{prometheus}/metrics")))
    ok = all(check.ok for _, check in found)
    probes = _private_names()
    if as_json:
        checks = [{"exporter": name, **msgspec.to_builtins(check)} for name, check in found]
        write_line(json.dumps({"ok": ok, "checks": checks, "private_names": probes}, indent=2))
    else:
        width = max((len(check.subject) for _, check in found), default=0)
        if not found:
            write_line("no exporters: nothing is observed")
        before = None
        for name, check in found:
            if name != before:
                write_line(name)
                before = name
            write_line(f"  {'ok   ' if check.ok else 'WRONG'}  {check.subject:{width}}  {check.message}")
        _show(probes)
    sys.stdout.flush()
    raise typer.Exit(0 if ok else 1)


def _exporter(spec: str) -> Iterator[CheckResult]:
    try:
        exporter = make_exporter(spec)
    except ConfigurationError as error:
        yield CheckResult(False, "settings", " ".join(str(error).split()))
        return
    yield CheckResult(True, "settings", f"content={exporter.content}")
    if isinstance(exporter, SupportsCheck):
        try:
            yield from exporter.check()
        except SidestreamError as error:
            yield CheckResult(False, "check", str(error))
        finally:
            exporter.close()


def _private_names() -> list[dict[str, Any]]:
    """Probes of the private names in each installed library, as JSON objects."""
    import multiprocessing.spawn  # noqa: F401  # its names are probed only once it is imported

    from sidestream import stdlib_compat
    from sidestream.sources.pydantic_ai import compat
    from sidestream.sources.sdk import compat as sdk_compat

    found = [
        ("pydantic-ai", compat.probes()),
        ("the standard library", stdlib_compat.probes()),
        ("other SDKs", sdk_compat.probes()),
    ]
    with suppress(ImportError):  # an optional extra
        from sidestream_exporters.prometheus import compat as prometheus_compat

        found.append(("prometheus_client", prometheus_compat.probes()))
    probes = [{"library": library, **probe._asdict()} for library, each in found for probe in each]
    with suppress(ImportError):
        from sidestream_exporters.otlp import compat as otlp_compat

        for sentence in otlp_compat.probe():  # the OTLP probe reports missing names only
            name, _, lost = sentence.partition(": ")
            probes.append({"library": "opentelemetry", "name": name, "holds": False, "lost": lost})
    return probes


def _show(probes: list[dict[str, Any]]) -> None:
    write_line("private names of libraries")
    for probe in probes:
        if not probe["holds"]:
            write_line(f"  GONE   {probe['library']}: {probe['name']} ({probe['lost']})")
    held = sum(probe["holds"] for probe in probes)
    write_line(f"  ok     {held} of {len(probes)} are there")


def _metrics(url: str) -> CheckResult:
    """Check whether Sidestream's metrics are served at `url`."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            text = answer.read(1_000_000).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return CheckResult(False, "metrics", f"{url} answers {error.code}: something else has this port")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return CheckResult(False, "metrics", f"{url} does not answer ({reason}): is the program running?")
    if "sidestream_build_info" not in text:
        return CheckResult(
            False, "metrics", f"{url} answers, but not with Sidestream's metrics: another program's port?"
        )
    series = sum(not line.startswith("#") for line in text.splitlines())
    return CheckResult(True, "metrics", f"{url} serves {series} series")
