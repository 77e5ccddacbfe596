"""Correlation: adds the ids of the current run to the application's own log lines.

    structlog.configure(processors=[sidestream.logs.add_run, ...])

    handler.addFilter(sidestream.logs.RunFilter())
    handler.setFormatter(logging.Formatter("%(levelname)s %(sidestream_run_id)s %(message)s"))

A run covers the log lines of everything called from it: tools, sub-agents, a tapped generator. The body of `async with
agent.iter()` or `run_stream()` is covered too, because both share the context of the caller.
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
    """Run to which the current code belongs."""

    run_id: str
    root_run_id: str
    """Id of the root run; equal to `run_id` unless the run is a sub-agent's."""
    agent: str | None
    tool_call_id: str | None
    """Tool call within the run to which the code belongs; None outside of a tool."""
    trace_id: str | None
    """OpenTelemetry trace id in hex; None before the run has started."""


def current_run() -> CurrentRun | None:
    """Return the observed run to which the current code belongs, or None."""
    link = current.get()
    while link is not None and link.run.ended:
        link = link.run.parent  # code that outlives its run belongs to the enclosing run
    if link is None:
        return None
    run = link.run
    return CurrentRun(run.run_id, run.root_run_id, run.agent_name, link.tool_call_id, run.trace_id)


def add_run(logger: Any, method_name: str, event_dict: _EventDict) -> _EventDict:
    """structlog processor: adds `run_id`, `root_run_id`, `agent`, `tool_call_id` and `trace_id` inside a run.

    Skips values that are None and keys that the event dict already has. Never raises.
    """
    try:
        run = current_run()
        if run is not None:
            for name in CurrentRun.__slots__:
                value = getattr(run, name)
                if value is not None:
                    event_dict.setdefault(name, value)
    except Exception as error:  # a failure here must not lose the log line
        _not_stamped(error)
    return event_dict


class RunFilter(logging.Filter):
    """Adds `sidestream_run_id`, `…_root_run_id`, `…_agent`, `…_tool_call_id` and `…_trace_id` to every log record.

    Missing values are empty strings, so that a format string also works outside of a run. Add the filter to a handler,
    which receives the records of all loggers; with a queue, to the `QueueHandler`. Each record is stamped once. Never
    raises.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Stamp `record`; always returns True."""
        try:
            if not hasattr(record, "sidestream_run_id"):
                run = current_run()
                for name in CurrentRun.__slots__:
                    setattr(record, f"sidestream_{name}", getattr(run, name, None) or "")
        except Exception as error:  # a failure here must not lose the log line
            _not_stamped(error)
        return True


def _not_stamped(error: Exception) -> None:
    kind = type(error).__qualname__
    warn_once("a log line could not be stamped with its run", kind, exception=kind)
