"""OpenAI Agents SDK: each run of the runner is a run, a hand-off is a sub-run, and tools are tool calls.

Requests are recorded by the SDK of the model, or else from the run's hooks.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Callable, Coroutine
from types import ModuleType
from typing import Any

from sidestream.events import RunOutcome
from sidestream.recording.context import Link, current, enclosing
from sidestream.recording.failure import Failure
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request_recorder import monotonic_ns
from sidestream.recording.run_recorder import RunRecorder
from sidestream.recording.snapshot import snapshot
from sidestream.recording.span_context import current_span, current_span_context
from sidestream.sources.adapters.fields import field
from sidestream.sources.adapters.openai_responses import OpenAIResponses
from sidestream.sources.time_limits import Interruptible, is_time_out, is_timed_out, pass_on

from .calls import ModelCall, Observation, RequestFacts
from .compat import exception_of, stored_exception
from .patching import Patches
from .request_facts import ask_response
from .whole import response_items


def patch(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe the SDK after the import of `agents.run`, unless the module belongs to the program."""
    runner = getattr(module, "AgentRunner", None)
    lifecycle = sys.modules.get("agents.lifecycle")
    if runner is None or lifecycle is None or "openai" not in sys.modules:
        return
    hooks = hooks_class(lifecycle.RunHooksBase)
    patches.wrap(runner, "run", lambda original: _run(original, hooks, observation))
    patches.wrap(runner, "run_streamed", lambda original: _run_streamed(original, hooks, observation))
    patches.wrap(module.RunResultStreaming, "cancel", lambda original: _cancel(original, observation))


class AgentsRun:
    """Run of the runner, with the starting agent and the agents of hand-offs."""

    def __init__(self, recorder: Recorder, agent: Any, given: Any) -> None:
        self.recorder = recorder
        self.root = recorder.open_run(str(uuid.uuid4()), _name(agent), enclosing(recorder))
        self.active = self.root
        """Run of the currently active agent."""
        self.is_answered = False
        """Whether the final output has been recorded."""
        self._outside = current.get()
        self._calls = 0
        """Number of model calls recorded by the SDK of the model."""
        self._asked: tuple[int, int, RequestFacts] | None = None
        self._tools: dict[Any, tuple[RunRecorder, int]] = {}
        asked = ask_response({"input": given}, None)
        self.root.start(
            prompt=snapshot(asked.prompt) if recorder.wants_content else None,
            model=_model(agent),
            mode=None,
            caller=current_span(),
        )

    def link(self) -> Link:
        """Link for the code of the runner."""
        return Link(self.root, None, self._outside, requests=self._of_turn, around=current_span_context())

    def _of_turn(self) -> RunRecorder:
        self._calls += 1
        return self.active

    # --- called by the hooks ---

    def llm_start(self, agent: Any, instructions: Any, items: Any) -> None:
        """Prepare the recording of a model call."""
        asked = ask_response({"model": _model(agent), "input": items, "instructions": instructions}, None)
        self._asked = self._calls, monotonic_ns(), asked

    def llm_end(self, response: Any) -> None:
        """Record a model's answer, unless the SDK of the model has recorded the call."""
        if self._asked is None:
            return
        (before, at, asked), self._asked = self._asked, None
        if self._calls > before:
            return
        call = ModelCall(
            self.recorder, self.active, OpenAIResponses(), asked, response_items, streaming=False, is_run=False, at=at
        )
        answer = {"output": field(response, "output"), "usage": field(response, "usage"), "status": "completed"}
        call.answered({**answer, "id": field(response, "response_id")})

    def tool_start(self, context: Any, tool: Any) -> None:
        """Record the start of a tool, executed by the current task."""
        call_id = field(context, "tool_call_id")
        arguments = field(context, "tool_arguments") if self.recorder.wants_content else None
        span = self.active.tool_start(str(field(tool, "name") or "tool"), call_id, snapshot(arguments))
        self._tools[call_id or id(tool)] = self.active, span
        current.set(Link(self.active, call_id, self._outside, span=span, around=current_span_context()))

    def tool_end(self, context: Any, tool: Any, result: Any) -> None:
        """Record the end of a tool."""
        found = self._tools.pop(field(context, "tool_call_id") or id(tool), None)
        if found is not None:
            run, span = found
            run.tool_end(span, "ok", result=snapshot(result) if self.recorder.wants_content else None)

    def handoff(self, agent: Any) -> None:
        """Start a sub-run for another agent, until the next hand-off or the end."""
        self._end_turn("completed", None)
        self.active = self.recorder.open_run(str(uuid.uuid4()), _name(agent), Link(self.root, around=None))
        self.active.start(model=_model(agent), mode=None)

    def output(self, output: Any) -> None:
        """Record the final output."""
        self.is_answered = True
        content = snapshot(output) if self.recorder.wants_content else None
        for run in {self.active.run_id: self.active, self.root.run_id: self.root}.values():
            run.final_result(content, type(output).__name__)

    # --- the end ---

    def _end_turn(self, outcome: RunOutcome, failure: Failure | None) -> None:
        if self.active is not self.root:
            self.active.end(outcome, failure)
            self.recorder.close_run(self.active)

    def end(self, error: BaseException | None) -> None:
        """End the run with `error`, or with its output if None. Keeps no reference to `error`."""
        outcome: RunOutcome = "completed"
        failure: Failure | None = None
        if isinstance(error, Exception):
            outcome, failure = "error", Failure.of(error)
            self.active.error(failure, "run", identity=id(error))
        elif error is not None:
            outcome = "timed_out" if is_time_out(error) else "cancelled"
        self.close(outcome, failure)

    def close(self, outcome: RunOutcome, failure: Failure | None = None) -> None:
        """End the run with `outcome`."""
        self._end_turn(outcome, failure)
        self.root.end(outcome, failure)
        self.recorder.close_run(self.root)


def hooks_class(base: Any) -> Any:
    """Make the class of hooks that report to an `AgentsRun`, and then call the hooks of the caller."""

    class Hooks(base):  # type: ignore[misc]
        def __init__(self, run: AgentsRun, caller_hooks: Any) -> None:
            self.run = run
            self.caller_hooks = caller_hooks

        def _report(self, call: Callable[..., Any], *args: Any) -> None:
            safely(self.run.recorder, call, *args)

        async def on_llm_start(self, context: Any, agent: Any, system_prompt: Any, input_items: Any) -> None:
            self._report(self.run.llm_start, agent, system_prompt, input_items)
            if self.caller_hooks is not None:
                await self.caller_hooks.on_llm_start(context, agent, system_prompt, input_items)

        async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
            self._report(self.run.llm_end, response)
            if self.caller_hooks is not None:
                await self.caller_hooks.on_llm_end(context, agent, response)

        async def on_agent_start(self, context: Any, agent: Any) -> None:
            if self.caller_hooks is not None:
                await self.caller_hooks.on_agent_start(context, agent)

        async def on_agent_end(self, context: Any, agent: Any, output: Any) -> None:
            self._report(self.run.output, output)
            if self.caller_hooks is not None:
                await self.caller_hooks.on_agent_end(context, agent, output)

        async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
            self._report(self.run.handoff, to_agent)
            if self.caller_hooks is not None:
                await self.caller_hooks.on_handoff(context, from_agent, to_agent)

        # Not a coroutine function: the SDK calls this method in the tool's task and awaits the result in another, so
        # only the call itself can set context variables for the tool.
        def on_tool_start(self, context: Any, agent: Any, tool: Any) -> Coroutine[Any, Any, None]:
            self._report(self.run.tool_start, context, tool)
            made: Coroutine[Any, Any, None] = (
                _nothing() if self.caller_hooks is None else self.caller_hooks.on_tool_start(context, agent, tool)
            )
            return made

        async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
            self._report(self.run.tool_end, context, tool, result)
            if self.caller_hooks is not None:
                await self.caller_hooks.on_tool_end(context, agent, tool, result)

    return Hooks


async def _nothing() -> None:
    pass


def _begin(observation: Observation, hooks: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AgentsRun | None:
    """Start a run and add its hooks to `kwargs`. Returns None if recording is off, or the hooks are already present."""
    caller_hooks = kwargs.get("hooks")
    if not observation.active or isinstance(caller_hooks, hooks):
        return None
    agent = kwargs["starting_agent"] if "starting_agent" in kwargs else args[0]
    given = kwargs["input"] if "input" in kwargs else args[1]
    run = AgentsRun(observation.recorder, agent, given)
    kwargs["hooks"] = hooks(run, caller_hooks)
    return run


def _run(original: Any, hooks: Any, observation: Observation) -> Callable[..., Any]:
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        agents_run: AgentsRun | None = safely(observation.recorder, _begin, observation, hooks, args, kwargs)
        if agents_run is None:
            return await original(self, *args, **kwargs)
        outside = current.get()
        current.set(agents_run.link())
        try:
            result = await Interruptible(original(self, *args, **kwargs))
        except BaseException as error:
            safely(observation.recorder, agents_run.end, error)
            raise
        finally:
            current.set(outside)
        safely(observation.recorder, agents_run.end, None)
        return result

    return run


def _run_streamed(original: Any, hooks: Any, observation: Observation) -> Callable[..., Any]:
    def run_streamed(self: Any, *args: Any, **kwargs: Any) -> Any:
        agents_run: AgentsRun | None = safely(observation.recorder, _begin, observation, hooks, args, kwargs)
        if agents_run is None:
            return original(self, *args, **kwargs)
        outside = current.get()
        current.set(agents_run.link())
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            safely(observation.recorder, agents_run.end, error)
            raise
        finally:
            current.set(outside)
        safely(observation.recorder, _watch, agents_run, result)
        return result

    return run_streamed


def _cancel(original: Any, observation: Observation) -> Callable[..., Any]:
    """Wraps `cancel` of a streamed result, which the SDK also calls when the reader of its events is cancelled."""

    def cancel(self: Any, *args: Any, **kwargs: Any) -> Any:
        task = _task_of(self)
        if task is not None and isinstance(sys.exc_info()[1], asyncio.CancelledError):
            safely(observation.recorder, pass_on, asyncio.current_task(), task)
        return original(self, *args, **kwargs)

    return cancel


def _task_of(result: Any) -> asyncio.Task[Any] | None:
    """The background task of a streamed result."""
    return getattr(result, "run_loop_task", None) or getattr(result, "_run_impl_task", None)


def _watch(agents_run: AgentsRun, result: Any) -> None:
    """End the run with the background task of a streamed result, whether or not its events are read."""
    task = _task_of(result)
    if task is None:
        agents_run.close("completed")
        return

    def done(task: asyncio.Task[Any]) -> None:
        safely(agents_run.recorder, _finish, agents_run, task, result)

    task.add_done_callback(done)


def _finish(agents_run: AgentsRun, task: asyncio.Task[Any], result: Any) -> None:
    # `task.exception()` would suppress asyncio's warning that the exception was never retrieved.
    error = None if task.cancelled() else exception_of(task) or stored_exception(result)
    limit = getattr(result, "max_turns", None)
    if error is not None:
        agents_run.end(error)
    elif agents_run.is_answered:
        agents_run.close("completed")
    elif isinstance(limit, int) and getattr(result, "current_turn", 0) > limit:  # raised only to readers
        failure = Failure("agents.exceptions.MaxTurnsExceeded", f"Max turns ({limit}) exceeded")
        agents_run.root.error(failure, "run")
        agents_run.close("error", failure)
    elif is_timed_out(task):
        agents_run.close("timed_out")
    else:
        agents_run.close("cancelled" if task.cancelled() or not getattr(result, "interruptions", None) else "completed")


def _name(agent: Any) -> str | None:
    name = getattr(agent, "name", None)
    return name if isinstance(name, str) else None


def _model(agent: Any) -> str | None:
    model = getattr(agent, "model", None)
    name = model if isinstance(model, str) else getattr(model, "model", None)
    return name if isinstance(name, str) else None
