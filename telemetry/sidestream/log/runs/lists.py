"""List of runs that a notebook displays as a table."""

from __future__ import annotations

from typing import SupportsIndex, overload

from .summary import RunSummary


class RunList(list[RunSummary]):
    """List of runs; a notebook displays it, and its slices, as a table."""

    def _repr_html_(self) -> str:
        """Table for a notebook."""
        from sidestream.log.html import runs_html

        return runs_html(self)

    @overload
    def __getitem__(self, index: SupportsIndex) -> RunSummary: ...

    @overload
    def __getitem__(self, index: slice) -> RunList: ...

    def __getitem__(self, index: SupportsIndex | slice) -> RunSummary | RunList:
        if isinstance(index, slice):
            return RunList(super().__getitem__(index))
        return super().__getitem__(index)
