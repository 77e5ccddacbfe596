"""Interruption of Sidestream's code between two instructions, as by a signal handler or a finalizer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import sidestream

HERE = str(Path(sidestream.__file__).parent)


@contextmanager
def interrupted(at: int, handler: Callable[[], None]) -> Iterator[None]:
    """Call `handler` before instruction `at` that this thread executes of Sidestream's code within the block.

    No call if the block executes fewer instructions.
    """
    left = at
    before = sys.gettrace()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if left <= 0 or not frame.f_code.co_filename.startswith(HERE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                sys.settrace(before)
                handler()
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
