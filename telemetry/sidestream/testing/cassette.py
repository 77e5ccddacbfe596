"""Cassettes: a test records what models answer on its first run, and gets the same answers on every run after it."""

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
    """A log that a test records, or is answered from.

    Args:
        file: The log.
        record: Whether to record it anew though it is there. One that is not there is recorded.
        may_record: Whether a model may be asked at all.
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
        """Record the runs of `agents`, or have them answered; returns the first of them.

        Name every agent that takes part, sub-agents too.

        Args:
            agents: pydantic-ai's agents, with the models that are to be recorded.
            strict: As for `ModelFromLog`; likewise `tools`.
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
        """Where it is recorded, until the test has passed."""
        return self.file.with_name(f"{self.file.stem}.new.jsonl")

    def close(self, *, keep: bool) -> None:
        """The test is over. What it recorded is kept if `keep`, for a test that failed records nothing worth it."""
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
    """A cassette for a `with` block; recorded if the block ends without an exception."""
    made = Cassette(file, **options)
    try:
        yield made
    except BaseException:
        made.close(keep=False)
        raise
    made.close(keep=True)
