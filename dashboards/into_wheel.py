"""Build hook that puts the boards and rules into the wheel, for `sidestream dashboards export`.

A hook, since the setting `force-include` would also copy the files into editable installs, where the copies become
outdated.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Hook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"]["dashboards/generated"] = "sidestream/_dashboards"
