"""What `sidestream run` and the program under it agree on: the settings, and the environment that carries them.

`path/` is what the program finds on its PYTHONPATH: a folder with nothing in it but a `sitecustomize.py`, so that it
can shadow no other module. When the program imports pydantic-ai, that calls `start` here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from urllib.parse import parse_qs

import msgspec

from sidestream.install import install
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.registry import make_exporter
from sidestream.recording.content import ContentPolicy
from sidestream.sidecar import Sidecar

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "path")
SETTINGS = "SIDESTREAM_RUN"
SUBPROCESSES = "SIDESTREAM_SUBPROCESSES"


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the options of `sidestream run` come to. None is the default of `Sidecar`."""

    exporters: list[str]
    content: str | None = None
    """The content policy of those exporters that name none of their own."""
    tags: dict[str, str] = {}
    buffer_events: int | None = None
    buffer_bytes: int | None = None
    close_timeout: float | None = None
    stall_seconds: float | None = None

    def sidecar(self) -> Sidecar:
        """A sidecar with these settings. Raises `ConfigurationError` where they cannot work."""
        names = ("buffer_events", "buffer_bytes", "close_timeout", "stall_seconds")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return Sidecar(*map(self._exporter, self.exporters), tags=self.tags, **given)

    def _exporter(self, spec: str) -> Exporter:
        exporter = make_exporter(spec)
        if self.content is not None and "content" not in parse_qs(spec.partition("?")[2]):
            exporter.content = ContentPolicy.parse(self.content)
        return exporter


def put_into(environment: MutableMapping[str, str], settings: Settings, *, subprocesses: bool) -> None:
    """Have Python programs that are started with `environment` observed."""
    environment[SETTINGS] = msgspec.json.encode(settings).decode()
    before = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{PATH}{os.pathsep}{before}" if before else PATH
    if subprocesses:
        environment[SUBPROCESSES] = "1"


def start(settings: str) -> None:
    """Observe every agent of this process, with the settings that `put_into` left."""
    sidecar = install(sidecar=msgspec.json.decode(settings, type=Settings).sidecar())
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        # A child of multiprocessing leaves past the interpreter's exit handlers, by way of its own.
        from multiprocessing.util import Finalize

        Finalize(None, sidecar.close, exitpriority=100)
