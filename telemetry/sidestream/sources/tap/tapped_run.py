"""Run of a tapped stream: calls the adapter for each item, and determines the outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sidestream.events import RequestOutcome, RunOutcome
from sidestream.recording.failure import Failure
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request_recorder import monotonic_ns
from sidestream.recording.run_recorder import RunRecorder
from sidestream.sources.adapters.protocol import Adapter
from sidestream.sources.time_limits import is_time_out

from .recorder import StreamRecorder

_REQUEST_OUTCOME: dict[RunOutcome, RequestOutcome] = {"completed": "ok", "error": "error", "abandoned": "interrupted"}
_TRUNCATED = Failure("IncompleteStream", "the stream ended before its answer was complete")


class TappedRun(StreamRecorder):
    """Run of one tapped stream: a `StreamRecorder` with the methods reserved for the tap."""

    def __init__(
        self, recorder: Recorder, run: RunRecorder, adapter: Adapter, *, model: str | None, provider: str | None
    ) -> None:
        super().__init__(recorder, run, model=model, provider=provider)
        self._adapter = adapter
        self._begins_at_first_pull = False

    @property
    def run(self) -> RunRecorder:
        """Recorder of the run."""
        return self._run

    @property
    def last_at(self) -> int:
        """Time of the last arrival, or of the last pull without an item (monotonic ns)."""
        return self._t

    def begins_at_first_pull(self) -> None:
        """Start the first request at the first pull, for a generator whose execution has not started."""
        self._begins_at_first_pull = self.start_known = True

    def asked(self, t: int) -> None:
        """Record the opening call at `t` (monotonic ns), which sends the first request."""
        self._since = t
        self.start_known = True

    def opened(self) -> None:
        """Record that the stream is open."""
        self._opened = monotonic_ns()

    def item(self, item: Any, t_pull: int) -> None:
        """Record `item`, pulled at `t_pull` (monotonic ns) and received now."""
        if self._run.ended:
            return
        self._t_pull, self._t = t_pull, monotonic_ns()
        if self._begins_at_first_pull:
            self._first_pull()
        try:
            self._adapter(item, self)
            if self._t_pull != self._t:  # no piece has accounted for the times
                self._account_times()
        except Exception as error:
            self._recorder.trouble(error)

    def empty_pull(self, t_pull: int) -> None:
        """Record a pull at `t_pull` that brought no item; the wait counts nevertheless."""
        self._t_pull, self._t = t_pull, monotonic_ns()
        if self._begins_at_first_pull:
            self._first_pull()
        self._account_times()

    def _first_pull(self) -> None:
        self._begins_at_first_pull = False
        self._since = self._opened = self._t_pull

    def not_opened(self, error: BaseException) -> None:
        """Record `error`, raised while opening the stream, as a failed request."""
        if self._request is None:
            self._begin_request()
        self.raised(error)

    def raised(self, error: BaseException) -> None:
        """Record `error`, raised by the stream (including StopIteration). Keeps no reference to `error`."""
        if isinstance(error, StopAsyncIteration | StopIteration):
            self.end("completed")
        elif isinstance(error, Exception):
            failure = Failure.traced(error)
            request = self._request
            if request is None:
                self._run.error(failure, "run")
            else:
                self._run.error(failure, "model", request=request.number)
            self.end("error", failure)
        else:
            left = isinstance(error, GeneratorExit)
            self.end("abandoned" if left else "timed_out" if is_time_out(error) else "cancelled")

    def _is_cut_off(self) -> bool:
        """Whether the stream ended without an announced mark of the end."""
        return (self._request is not None and self._complete is False) or (self._promised and self.outcome is None)

    def end(self, outcome: RunOutcome, failure: Failure | None = None) -> None:
        """End the run, because the stream is over or the consumer has left."""
        if not self._run.ended:
            self._run.end(*self.finish(outcome, failure))
        self._recorder.close_run(self._run)

    def finish(self, outcome: RunOutcome, failure: Failure | None) -> tuple[RunOutcome, Failure | None]:
        """End the open request. Returns the run's outcome; an announcement of the stream takes precedence."""
        finish: Callable[[StreamRecorder], None] | None = getattr(self._adapter, "end", None)
        if finish is not None:
            safely(self._recorder, finish, self)
        if outcome in ("completed", "abandoned") and self.outcome is not None:
            outcome, failure = self.outcome, self._failure
        if outcome == "completed" and self._is_cut_off():
            outcome, failure = "error", _TRUNCATED
            self.error(failure.message, failure.type, "run" if self._request is None else "model")
        safely(self._recorder, self.request_end, _REQUEST_OUTCOME.get(outcome, "cancelled"), failure)
        return outcome, failure
