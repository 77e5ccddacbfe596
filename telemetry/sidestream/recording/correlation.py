"""An application's own log lines, stamped with the run they were written in.

    structlog.configure(processors=[sidestream.logs.add_run, ...])

    handler.addFilter(sidestream.logs.RunFilter())
    handler.setFormatter(logging.Formatter("%(levelname)s %(sidestream_run_id)s %(message)s"))

A line is inside a run where it is written by what the run calls: tools, sub-agents, a tapped generator. (And, as the
context of a run is its caller's, in the body of `async with agent.iter()` or `run_stream()`.)
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sidestream.diagnostics import warn_once

from .context import current

_EventDict = TypeVar("_EventDict", bound=MutableMapping[str, Any])


@dataclass(frozen=True, slots=True)
class CurrentRun:
    """The run that the current code runs inside."""

    run_id: str
    root_run_id: str
    """The run at the top: itself, unless it is a sub-agent's."""
    agent: str | None
    tool_call_id: str | None
    """The tool call within the run that the code belongs to, if any."""
    trace_id: str | None
    """In hex."""


def current_run() -> CurrentRun | None:
    """The observed run that the current code runs inside, or None."""
    link = current.get()
    while link is not None and link.run.ended:
        link = link.run.parent  # code that outlives its run belongs to the one around it
    if link is None:
        return None
    run = link.run
    return CurrentRun(run.run_id, run.root_run_id, run.agent_name, link.tool_call_id, run.trace_id)


def add_run(logger: Any, method_name: str, event_dict: _EventDict) -> _EventDict:
    """structlog processor: adds `run_id`, `root_run_id`, `agent`, `tool_call_id` and `trace_id`, inside a run.

    Absent ones are left out, and a key that the line has already is left as it is. Never raises.
    """
    try:
        run = current_run()
        if run is not None:
            for name in CurrentRun.__slots__:
                value = getattr(run, name)
                if value is not None:
                    event_dict.setdefault(name, value)
    except Exception as error:  # a log line is worth more than its stamp
        _not_stamped(error)
    return event_dict


class RunFilter(logging.Filter):
    """Lets every record pass, with `sidestream_run_id`, `…_root_run_id`, `…_agent`, `…_tool_call_id`, `…_trace_id`.

    What is absent is an empty string, so that a format may name them outside a run too. Give it to a handler, which
    sees the records of all loggers; before a queue, to the `QueueHandler`. A record is stamped once. Never raises.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Stamp `record`; always True."""
        try:
            if not hasattr(record, "sidestream_run_id"):
                run = current_run()
                for name in CurrentRun.__slots__:
                    setattr(record, f"sidestream_{name}", getattr(run, name, None) or "")
        except Exception as error:  # a log line is worth more than its stamp
            _not_stamped(error)
        return True


def _not_stamped(error: Exception) -> None:
    kind = type(error).__qualname__
    warn_once("a log line could not be stamped with its run", kind, exception=kind)
