"""Check against exporting a log into itself, which would double every event."""

from __future__ import annotations

import os

from sidestream.errors import ConfigurationError
from sidestream.log.files import Paths, matching_files
from sidestream.pipeline.companions import WritesLog
from sidestream.pipeline.exporter import Exporter


def refuse_own_log(exporter: Exporter, paths: Paths) -> None:
    """Raises `ConfigurationError` if `exporter` writes to the log at `paths`, which is the source of its events."""
    if not isinstance(exporter, WritesLog):
        return
    target = os.path.realpath(exporter.log_path)
    is_file = target.endswith(".jsonl") and not os.path.isdir(target)
    folder = os.path.dirname(target) if is_file else target
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        files = [os.path.realpath(file) for file in matching_files(os.fspath(path))]
        shared = target in files if is_file else any(os.path.dirname(file) == folder for file in files)
        # A new file in a folder that is read would belong to that log as well.
        if shared or os.path.realpath(os.path.expanduser(path)) == folder:
            raise ConfigurationError(
                f"{exporter.name}: {exporter.log_path} is the log being read: export to another place"
            )
