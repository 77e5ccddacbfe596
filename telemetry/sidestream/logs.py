"""Public names for stamping log lines of the application with the current run. See `recording.correlation`."""

from .recording.correlation import CurrentRun, RunFilter, add_run, current_run

__all__ = ["CurrentRun", "RunFilter", "add_run", "current_run"]
