"""Cassettes: a test records the models' answers on its first run, and replays them on every later run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidestream.errors import ConfigurationError

if TYPE_CHECKING:
    from sidestream.sidecar import Sidecar

    from .model_from_log import ModelFromLog, Tools


class Cassette:
    """Log that a test records to, or replays from.

    Args:
        file: Path of the log. A missing file is recorded.
        record: Whether an existing file is recorded anew.
        may_record: Whether recording is allowed, which sends requests to models.

    Raises:
        ConfigurationError: The file is missing, and `may_record` is False.
    """

    def __init__(self, file: Path, *, record: bool = False, may_record: bool = True) -> None:
        self.file = file
        self.recording = record or not file.exists()
        if self.recording and not may_record:
            raise ConfigurationError(f"there is no cassette {file}: run the test once with --sidestream-record")
        self._stack = ExitStack()
        self._sidecar: Sidecar | None = None
        self._model: ModelFromLog | None = None
        self._agents: list[Any] = []

    def use(self, *agents: Any, strict: bool = True, tools: Tools = "run") -> Any:
        """Record the runs of `agents`, or answer their requests from the log; returns the first agent.

        Args:
            agents: All pydantic-ai agents of the test, sub-agents included.
            strict: As for `ModelFromLog`.
            tools: As for `ModelFromLog`.
        """
        if self.recording:
            self._record(agents)
        else:
            from .model_from_log import ModelFromLog

            if self._model is None:
                self._model = ModelFromLog(self.file, run=None, strict=strict, tools=tools)
            self._stack.enter_context(self._model.override(*agents))
        return agents[0]

    def _record(self, agents: tuple[Any, ...]) -> None:
        if self._sidecar is None:
            from sidestream.sidecar import Sidecar

            self._new.parent.mkdir(parents=True, exist_ok=True)
            self._new.unlink(missing_ok=True)
            self._sidecar = Sidecar(f"jsonl:{self._new}")
        for agent in agents:
            self._sidecar.observe(agent)
            self._agents.append(agent)

    @property
    def _new(self) -> Path:
        """Path of the recording until the test has passed."""
        return self.file.with_name(f"{self.file.stem}.new.jsonl")

    def close(self, *, keep: bool) -> None:
        """End recording or replaying.

        Args:
            keep: Whether a recording replaces the file; False, after a failed test, deletes the recording.
        """
        self._stack.close()
        if self._sidecar is None:
            return
        for agent in self._agents:
            self._sidecar.unobserve(agent)
        self._sidecar.close()
        if keep and self._new.exists():
            self._new.replace(self.file)
        else:
            self._new.unlink(missing_ok=True)


@contextmanager
def cassette(file: Path, **options: Any) -> Iterator[Cassette]:
    """Cassette for a `with` block. A recording is kept if the block ends without an exception."""
    made = Cassette(file, **options)
    try:
        yield made
    except BaseException:
        made.close(keep=False)
        raise
    made.close(keep=True)
