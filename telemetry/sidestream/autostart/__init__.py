"""Settings that `sidestream run` passes to the program it starts, through the environment.

`path/` is put on the program's PYTHONPATH. The folder holds only a `sitecustomize.py`, so that it shadows no other
module. When the program imports pydantic-ai or another supported SDK, that file calls `start` of this module.
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
    """Settings of `sidestream run`. None means the default of `Sidecar`."""

    exporters: list[str]
    content: str | None = None
    """Content policy of the exporters that set none themselves."""
    sdk: list[str] | None = None
    """SDKs to observe; None for all."""
    tags: dict[str, str] = {}
    buffer_events: int | None = None
    buffer_bytes: int | None = None
    close_timeout: float | None = None
    stall_seconds: float | None = None
    rerun: Rerun | None = None
    """Logged run to run again; None to run normally."""

    def sidecar(self) -> Sidecar:
        """Create a sidecar with these settings. Raises `ConfigurationError` if they are invalid."""
        if is_disabled() or not self.exporters:
            return Sidecar("none")
        return self._sidecar(*map(self.exporter, self.exporters))

    def check(self) -> None:
        """Validate the settings without starting an exporter. Raises `ConfigurationError` as `sidecar` would."""
        connect([self.exporter(spec) for spec in self.exporters])
        self._sidecar("none").close()

    def _sidecar(self, *exporters: Exporter | str) -> Sidecar:
        names = ("buffer_events", "buffer_bytes", "close_timeout", "stall_seconds")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return Sidecar(*exporters, tags=self.tags, **given)

    def exporter(self, spec: str) -> Exporter:
        """Create the exporter that `spec` describes. Raises `ConfigurationError` if `spec` is invalid."""
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
    """Observe every agent of this process with the given settings, except agents that the program observes itself."""
    given = msgspec.json.decode(settings, type=Settings)
    if given.rerun is not None:
        answer_every_agent(given.rerun)
    sidecar = given.sidecar()
    if sidecar.disabled:
        return
    sidecar.stands_aside = True
    install(sidecar=sidecar, sdk=given.sdk)
    close_at_child_exit(sidecar.close)
