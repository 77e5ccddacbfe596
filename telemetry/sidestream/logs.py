"""Stamps the application's own log lines with the run they were written in. Public name of `recording.correlation`."""

from .recording.correlation import CurrentRun, RunFilter, add_run, current_run

__all__ = ["CurrentRun", "RunFilter", "add_run", "current_run"]
