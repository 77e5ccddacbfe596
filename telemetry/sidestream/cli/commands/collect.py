"""`sidestream collect`: one process that exports the logs of many."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Paths
from sidestream.errors import ConfigurationError

CHECKPOINT = ".sidestream-collect"
"""Name of the checkpoint folder, within the folder of the log."""


def collect(
    paths: Paths = None,
    otlp: Annotated[
        str | None, typer.Option(metavar="URL", help="OTLP endpoint for spans; short for --exporter otlp:URL.")
    ] = None,
    prometheus: Annotated[
        str | None,
        typer.Option(metavar="[HOST]:PORT", help="Address for metrics; short for --exporter prometheus:HOST:PORT."),
    ] = None,
    exporter: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="Any exporter, such as otlp or jsonl:all/. Repeatable.")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help=f"Folder of the checkpoints. Default: {CHECKPOINT} in the log."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Maximum time for delivering the rest on exit.")
    ] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Export the logs of any number of processes from one process, until SIGTERM or Ctrl-C.

    The processes write to one folder with the jsonl exporter and never wait for a network. Each exporter has its own
    position in the log, works at its own pace, and retries during its own outages. Killed and restarted at any time,
    the collector resumes at its checkpoint: no run is lost, counters do not fall, and spans keep their ids. A run whose
    process was killed ends with outcome lost.

    On exit, prints the statistics of each exporter; with --json, as JSON.

    Example:  sidestream collect runs/ --otlp http://127.0.0.1:4318 --prometheus :9464

    Example:  sidestream collect /var/log/agents --exporter otlp --checkpoint /var/lib/sidestream
    """
    from sidestream.cli.rendering import write_json
    from sidestream.log.forwarding.collect import Collector

    log = paths or [DEFAULT_LOG]
    specs = [
        *([f"otlp:{otlp}"] if otlp else []),
        *([f"prometheus:{prometheus.removeprefix(':')}"] if prometheus else []),
    ]
    specs += exporter or []
    if not specs:
        raise ConfigurationError("collect: give --otlp URL, --prometheus :9464 or --exporter SPEC")
    collector = Collector(log, specs, checkpoint or _default_checkpoint(log[0]))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        collector.start()
        while not collector.stopped:
            time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    finally:
        collector.close(timeout)
    books = collector.stats()
    if as_json:
        write_json(books)
    for name, stats in books.exporters.items() if not as_json else ():
        dropped = "".join(f"; {count:,} dropped ({reason})" for reason, count in stats.dropped.items())
        pending = f"; {stats.pending:,} pending, not delivered" if stats.pending else ""
        print(f"{name}: {stats.exported:,} events exported{dropped}{pending}", file=sys.stderr)
    if collector.failed:
        raise typer.Exit(1)


def _default_checkpoint(log: str) -> str:
    folder = log if os.path.isdir(log) or log.endswith(("/", os.sep)) else os.path.dirname(log)
    if any(letter in folder for letter in "*?["):
        raise ConfigurationError("collect: --checkpoint FOLDER is required if the log is a glob")
    return os.path.join(folder, CHECKPOINT)
