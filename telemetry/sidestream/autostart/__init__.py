"""Settings that `sidestream run` hands to the program under it, and the environment that carries them.

`path/` is what the program finds on its PYTHONPATH: a folder with nothing in it but a `sitecustomize.py`, so that it
can shadow no other module. When the program imports pydantic-ai, or another SDK, that calls `start` here.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from urllib.parse import parse_qs

import msgspec

from sidestream.install import install
from sidestream.pipeline.companions import connect
from sidestream.pipeline.exporter import Exporter
from sidestream.recording.content import ContentPolicy
from sidestream.settings import exporter_of, is_disabled
from sidestream.sidecar import Sidecar
from sidestream.stdlib_compat import close_at_child_exit

from .rerun import Rerun, answer_every_agent

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "path")
SETTINGS = "SIDESTREAM_RUN"
SUBPROCESSES = "SIDESTREAM_SUBPROCESSES"


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Settings of `sidestream run`. None stands for the default of `Sidecar`."""

    exporters: list[str]
    content: str | None = None
    """Content policy of those exporters that name none of their own."""
    sdk: list[str] | None = None
    """SDKs to observe; None for all."""
    tags: dict[str, str] = {}
    buffer_events: int | None = None
    buffer_bytes: int | None = None
    close_timeout: float | None = None
    stall_seconds: float | None = None
    rerun: Rerun | None = None
    """A logged run that is to be done again."""

    def sidecar(self) -> Sidecar:
        """Makes a sidecar with these settings. Raises `ConfigurationError` where they cannot work."""
        if is_disabled() or not self.exporters:
            return Sidecar("none")
        return self._sidecar(*map(self.exporter, self.exporters))

    def check(self) -> None:
        """Raises `ConfigurationError` where `sidecar` would. Starts no exporter: that is for the program to do."""
        connect([self.exporter(spec) for spec in self.exporters])
        self._sidecar("none").close()

    def _sidecar(self, *exporters: Exporter | str) -> Sidecar:
        names = ("buffer_events", "buffer_bytes", "close_timeout", "stall_seconds")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return Sidecar(*exporters, tags=self.tags, **given)

    def exporter(self, spec: str) -> Exporter:
        """Makes the exporter that `spec` describes. Raises `ConfigurationError` where it cannot work."""
        exporter = exporter_of(spec)
        if self.content is not None and "content" not in parse_qs(spec.partition("?")[2]):
            exporter.content = ContentPolicy.parse(self.content)
        return exporter


def put_into(environment: MutableMapping[str, str], settings: Settings, *, subprocesses: bool) -> None:
    """Prepare `environment` so that Python programs started with it are observed."""
    environment[SETTINGS] = msgspec.json.encode(settings).decode()
    before = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{PATH}{os.pathsep}{before}" if before else PATH
    if subprocesses:
        environment[SUBPROCESSES] = "1"


def start(settings: str) -> None:
    """Observe every agent of this process with the given settings, except those that it observes itself."""
    given = msgspec.json.decode(settings, type=Settings)
    if given.rerun is not None:
        answer_every_agent(given.rerun)
    sidecar = given.sidecar()
    if sidecar.disabled:
        return
    sidecar.stands_aside = True
    install(sidecar=sidecar, sdk=given.sdk)
    close_at_child_exit(sidecar.close)
