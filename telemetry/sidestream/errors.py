"""Every error Sidestream raises, in one tree.

    SidestreamError
    ├── ConfigurationError(ValueError)     a setting that cannot work
    │   └── UnknownExporterError           no exporter of that name is installed
    ├── InvalidEventError(ValueError)      an event that lacks or contradicts the contract
    ├── UnreadableLogError                 a log is there, and the system does not let us read it
    ├── OutputError                        a command's output cannot be written
    └── ExporterUnavailable                raised BY an exporter: its sink is away, keep the batch, try later

None of them ever reaches a run that is being observed: there, failures are counted and said once.
"""

from __future__ import annotations


class SidestreamError(Exception):
    """Base of every error Sidestream raises."""


class ConfigurationError(SidestreamError, ValueError):
    """A setting cannot work. The message says which one, why, and what would."""


class UnknownExporterError(ConfigurationError):
    """No installed exporter has the given name. The message lists those that are."""


class InvalidEventError(SidestreamError, ValueError):
    """An event was made without a required field, or with one of the wrong kind."""


class UnreadableLogError(SidestreamError):
    """A log is there and cannot be read: permission, a failing disk. The message says which file, and why."""

    @classmethod
    def of(cls, path: str, error: OSError) -> UnreadableLogError:
        """The error for `path`, from the system's `error`."""
        return cls(f"cannot read {path}: {error.strerror or error}")


class OutputError(SidestreamError):
    """The output of a command cannot be written."""


class ExporterUnavailable(SidestreamError):
    """An exporter raises this from `export()` when its sink cannot be reached and *nothing* of the batch was delivered.

    The pipeline then keeps the whole batch, waits with a growing delay, and offers it again.
    Any other exception means that the batch is lost, and it is counted so.
    """
