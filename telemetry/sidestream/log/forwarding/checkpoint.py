"""Checkpoint file from which a reader resumes after a restart: replaced as a whole, used by one process at a time."""

from __future__ import annotations

import os
from typing import Generic, TypeVar

import msgspec

from sidestream.errors import ConfigurationError
from sidestream.logfiles.locks import try_lock
from sidestream.logfiles.opening import open_regular

StateT = TypeVar("StateT")


class Checkpoint(Generic[StateT]):
    """Checkpoint at `path`, a `StateT` as JSON. The file and its folder are created by the first `save`.

    Raises `ConfigurationError` if another process uses the file, or if it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], kind: type[StateT]) -> None:
        self.path = os.path.abspath(os.path.expanduser(os.fspath(path)))
        self._decoder = msgspec.json.Decoder(kind)
        self._encoder = msgspec.json.Encoder()
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            self._lock = open_regular(self.path + ".lock", os.O_RDWR | os.O_CREAT, own=True)
        except OSError as error:
            raise ConfigurationError(f"checkpoint {self.path}: {error.strerror}: choose another place") from None
        try:
            free = try_lock(self._lock)
        except OSError:  # a file system without locks
            free = True
        if not free:
            self.close()
            raise ConfigurationError(
                f"checkpoint {self.path}: in use by another process: stop that process, or use another checkpoint"
            )

    def load(self) -> StateT | None:
        """Read the last saved state; None if nothing was saved.

        Raises `ConfigurationError` if the file cannot be read.
        """
        try:
            with open(self.path, "rb") as file:
                return self._decoder.decode(file.read())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigurationError(
                f"checkpoint {self.path} cannot be read ({error}): remove it to begin with the whole log again"
            ) from None

    def save(self, state: StateT) -> None:
        """Replace the saved state atomically: a kill leaves either the old or the new state. Raises `OSError`."""
        part = self.path + ".part"
        with open(part, "wb", opener=lambda path, flags: open_regular(path, flags, own=True)) as file:
            file.write(self._encoder.encode(state))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path)

    def close(self) -> None:
        """Release the lock, so that another process can use the checkpoint."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
