"""Runs as cases of an evaluation data set: input, output and metadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sidestream.errors import ConfigurationError
from sidestream.events import Json
from sidestream.log.files import Paths

from .loading import load_run
from .summary import RunSummary


def cases(paths: Paths, chosen: Iterable[RunSummary]) -> list[dict[str, Json]]:
    """Evaluation case for each run: `name`, `inputs` (the prompt), `expected_output`, `metadata`, as in pydantic-evals.

    Args:
        paths: the log.
        chosen: the runs. A run whose prompt is not in the log is left out.

    Raises `ConfigurationError` if the log has no prompt of any of the runs.
    """
    found = []
    empty = True
    for summary in chosen:
        empty = False
        run = load_run(paths, summary.run_id)
        if run.prompt is None:
            continue
        case: dict[str, Any] = {"name": summary.run_id, "inputs": run.prompt}
        if run.output is not None:
            case["expected_output"] = run.output
        known = {
            "agent": summary.agent_name,
            "model": summary.model,
            "outcome": summary.outcome,
            "exception_type": summary.exception_type,
            "conversation_id": summary.conversation_id,
            "started": summary.started.isoformat() if summary.started else None,
            "duration_seconds": summary.duration_seconds,
            "total_tokens": summary.total_tokens,
            "cost_usd": summary.cost_usd,
            "tags": summary.tags or None,
            "attempt": summary.attempt,
            "attempt_of": summary.attempt_of,
            "scores": summary.score_values or None,
        }
        case["metadata"] = {name: value for name, value in known.items() if value is not None}
        found.append(case)
    if not found and not empty:
        raise ConfigurationError("no prompt of these runs is in the log: it was written without content")
    return found
