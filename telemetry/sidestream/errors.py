"""All errors that Sidestream raises, in one tree.

    SidestreamError
    ├── ConfigurationError(ValueError)     a setting that cannot work
    │   └── UnknownExporterError           no exporter of this name is installed
    ├── InvalidEventError(ValueError)      a field of an event is missing or invalid
    ├── UnreadableLogError                 an existing log cannot be read
    ├── OutputError                        the output of a command cannot be written
    └── ExporterUnavailable                raised BY an exporter: the sink is unreachable, retry the batch later

No error reaches an observed run: failures there are counted, and logged once.
"""

from __future__ import annotations


class SidestreamError(Exception):
    """Base class of all errors that Sidestream raises."""


class ConfigurationError(SidestreamError, ValueError):
    """A setting cannot work. The message names the setting, the reason, and a valid alternative."""


class UnknownExporterError(ConfigurationError):
    """No exporter of this name is installed. The message lists the installed ones."""


class InvalidEventError(SidestreamError, ValueError):
    """A required field of an event is missing or has the wrong type."""


class UnreadableLogError(SidestreamError):
    """An existing log cannot be read: no permission, a failing disk. The message names the file and the reason."""

    @classmethod
    def of(cls, path: str, error: OSError) -> UnreadableLogError:
        """Return the error for `path`, with the message of the operating system."""
        return cls(f"cannot read {path}: {error.strerror or error}")


class OutputError(SidestreamError):
    """The output of a command cannot be written."""


class ExporterUnavailable(SidestreamError):
    """Raised by `Exporter.export()` if the sink is unreachable and *no* event of the batch was delivered.

    The pipeline keeps the whole batch and retries with a growing delay. With any other exception the batch is lost, and
    counted as dropped.
    """
