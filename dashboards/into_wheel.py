"""Puts the boards and rules into the wheel, where `sidestream dashboards export` finds them.

A hook, since `force-include` would put copies into editable installs as well, which age there beside the real ones.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Hook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"]["dashboards/generated"] = "sidestream/_dashboards"
