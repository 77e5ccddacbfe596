"""Tools that open one run or compare two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from sidestream import log
from sidestream.errors import ConfigurationError
from sidestream.events import AnyEvent
from sidestream.log import RunLog, RunSummary
from sidestream.log.runs.loading import find_run
from sidestream.log.runs.naming import named_run
from sidestream.log.runs.sent_messages import Conversations
from sidestream.recording.content import ContentPolicy, apply_policy

from .answers import (
    Answer,
    as_text,
    change_line,
    known,
    number,
    numbered_page,
    page,
    run_line,
    short_texts,
    shortened,
    steps,
)
from .parameters import Cursor, Limit, Run


class RunTools:
    """Tools over single runs of one log, with content reduced to a policy."""

    def __init__(self, paths: Sequence[str], policy: ContentPolicy) -> None:
        self._paths = list(paths)
        self._policy = policy

    def open_run(self, run: Run, limit: Limit = 60, cursor: Cursor = None) -> Answer:
        """Open a run: prompt, output, and its steps (requests, tool calls, sub-agents, retries, errors) in order."""
        loaded = self._load(run)
        rest = numbered_page(steps(loaded), lambda step: step, limit, "steps", cursor)
        if cursor is not None:
            return {"run": loaded.summary.run_id, **rest}
        about = known(
            prompt=shortened(loaded.prompt, 2000), output=shortened(loaded.output, 2000), comments=_comments(loaded)
        )
        return {**run_line(loaded.summary), **about, **rest}

    def read_request(
        self,
        run: Run,
        request: Annotated[int, Field(ge=1, description="Number of the request: 1 for the first.")] = 1,
        characters: Annotated[int, Field(ge=100, le=20_000, description="Maximum characters of each text.")] = 4000,
        cursor: Cursor = None,
    ) -> Answer:
        """Read one request: all messages that were sent, including the history, and the answer."""
        loaded = self._load(run)
        step = next((each for each in loaded.steps if each.kind == "request" and each.request == request), None)
        if step is None:
            raise ConfigurationError(f"run {loaded.summary.run_id} has no request {request} in this log")
        messages = Conversations(loaded, self._load_known).messages(loaded.summary.run_id, request) or []
        start = number(cursor)

        def line(item: tuple[int, Any]) -> Answer:
            return {"message": item[0], **short_texts(item[1], characters)}

        items = list(enumerate(messages, 1))[start:]
        rest = page(items, line, 200, "messages", lambda item: item[0])
        if start:
            return rest
        sent = step.sent
        tools = sent.tools if sent is not None else None
        return {
            **known(
                run=loaded.summary.run_id,
                request=request,
                model=step.name,
                outcome=step.outcome,
                finish_reason=step.finish_reason,
                exception=step.exception_type,
                error=shortened(step.error, characters),
                instructions=shortened(step.input, characters),
                settings=None if sent is None else sent.settings,
                tools=[tool.get("name") for tool in tools if isinstance(tool, dict)]
                if isinstance(tools, list)
                else None,
                answer=[
                    known(kind=part.kind, tool=part.tool_name, text=shortened(part.text, characters))
                    for part in step.parts
                ],
            ),
            **rest,
        }

    def read_step(
        self,
        run: Run,
        seq: Annotated[int, Field(ge=0, description="seq of the step, from open_run or search.")],
        cursor: Cursor = None,
    ) -> Answer:
        """Read one event of a run in full, such as a tool call's arguments or result; long events come in pages."""
        loaded = self._load(run)
        its = [each for each in loaded.events if each.event.seq == seq]
        if not its:
            raise ConfigurationError(f"run {loaded.summary.run_id} has no event {seq} in this log")
        text = "\n".join(as_text({"event": str(each.event.event_type), "data": each.event.data}) for each in its)
        start, whole = number(cursor), 20_000
        answer: Answer = {"run": loaded.summary.run_id, "seq": seq, "text": text[start : start + whole]}
        if start + whole < len(text):
            answer |= {"characters": len(text), "next_cursor": str(start + whole)}
        return answer

    def compare(self, a: Run, b: Run, limit: Limit = 60, cursor: Cursor = None) -> Answer:
        """Compare two runs: differing facts, and the steps that differ."""
        found = log.diff(self._load(a), self._load(b))
        changed = [(at, step) for at, step in enumerate(found.steps, 1) if step.status != "same"]

        def line(item: tuple[int, log.StepDiff]) -> Answer:
            step = item[1]
            its = step.b or step.a
            return known(
                status=step.status,
                kind=its.kind if its else None,
                name=its.name if its else None,
                seq_a=step.a.seq if step.a else None,
                seq_b=step.b.seq if step.b else None,
                changes=[change_line(each) for each in step.changes],
            )

        items = [item for item in changed if item[0] > number(cursor)]
        rest = page(items, line, limit, "steps", lambda item: item[0])
        if cursor is not None:
            return rest
        facts = [change_line(each) for each in found.facts]
        runs = {"a": found.a.summary.run_id, "b": found.b.summary.run_id}
        return {**runs, "same": found.same, "same_steps": len(found.steps) - len(changed), "facts": facts, **rest}

    def _load(self, name: str) -> RunLog:
        found = self._named(name)
        return log.load_run(self._paths, found.run_id, change=self._apply_policy)

    def _load_known(self, run_id: str) -> RunLog | None:
        return find_run(self._paths, run_id, change=self._apply_policy)

    def _named(self, name: str) -> RunSummary:
        try:
            return named_run(name, log.runs(self._paths))
        except ConfigurationError as error:
            raise ConfigurationError(
                str(error).replace("`sidestream runs` lists them", "list_runs lists them")
            ) from None

    def _apply_policy(self, event: AnyEvent) -> AnyEvent:
        shown: Any = apply_policy(event, self._policy, None)
        return shown  # type: ignore[no-any-return]


def _comments(run: RunLog) -> list[Answer]:
    """Comments of the run's scores."""
    return [
        known(score=event.data.name, comment=shortened(event.data.comment))
        for event in run.scores
        if event.data.comment is not None
    ]
