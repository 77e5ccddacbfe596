"""Adapter for Sidestream events from another process."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sidestream.events import StreamEvent, payloads
from sidestream.recording.failure import Failure
from sidestream.recording.pricing import Cost
from sidestream.recording.snapshot import safe_str
from sidestream.sources.tap.recorder import StreamRecorder


class Events:
    """Items are `StreamEvent`s. Only events of the first run are recorded; those of sub-agents are skipped."""

    def __init__(self) -> None:
        self._run_id: str | None = None

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is a `StreamEvent`."""
        return isinstance(item, StreamEvent)

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        event: StreamEvent = item
        if self._run_id is None:
            self._run_id = event.run_id
        if event.run_id != self._run_id:
            return
        facts: dict[str, Any]
        match getattr(event.data, "struct", event.data):  # the streaming functions wrap payloads in dicts
            case payloads.LLMChunk(text=str(piece)) as chunk:
                names = {"tool_name": chunk.tool_name, "tool_call_id": chunk.tool_call_id, "part_kind": chunk.part_kind}
                record.piece(chunk.kind, chunk.part, piece, names)
            case payloads.LLMStart() as start:
                facts = {"provider": start.provider, "messages": start.messages, "settings": start.settings}
                facts |= {"instructions": start.instructions, "stop_sequences": start.stop_sequences}
                record.request_start(start.model, streaming=start.streaming, **facts)
            case payloads.LLMEnd() as end:
                names = {name: end.get(name) for name in ("response_model", "response_id", "provider", "finish_reason")}
                record.response(**names)
                if end.usage is not None:
                    usd, source = end.cost_usd, end.cost_source or "provider"
                    cost = None if usd is None else Cost(Decimal(str(usd)), source, end.price_version)
                    record.usage(end.usage, cost)
                record.request_end(end.outcome, _failure(end.exception_type, end.error))
            case payloads.ToolStart() as tool:
                record.tool_start(tool.tool_name, tool.args, tool_call_id=tool.tool_call_id)
            case payloads.ToolEnd() as tool:
                facts = {"tool_call_id": tool.tool_call_id, "failure": _failure(tool.exception_type, tool.error)}
                record.tool_end(tool.tool_name, tool.result, outcome=tool.outcome, **facts)
            case payloads.Retry() as retry:
                record.retry(**retry)
            case payloads.Error() as error:
                facts = {"tool_name": error.tool_name, "tool_call_id": error.tool_call_id}
                record.error(safe_str(error.error), error.exception_type or "Error", error.where, **facts)
            case payloads.FinalResult() as final:
                record.final_result(final.output, final.output_type)
            case payloads.Custom() as custom:
                record.custom(custom.name, custom.payload)
            case payloads.AgentEnd() as over:
                record.outcome = over.outcome


def _failure(exception_type: str | None, error: Any) -> Failure | None:
    return None if exception_type is None else Failure(exception_type, safe_str(error))
