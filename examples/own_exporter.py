"""Custom exporter: sums the tokens of all runs by agent."""

from collections import Counter
from collections.abc import Sequence

from pydantic_ai import Agent

from sidestream import ContentPolicy, Exporter, Sidecar, StreamEvent


class Bill(Exporter):
    name = "bill"
    content = ContentPolicy.parse("none")  # the exporter gets events without prompts and answers
    skip = frozenset({"llm_chunk", "llm_start", "tool_start"})

    def __init__(self) -> None:
        self.tokens: Counter[str] = Counter()

    def export(self, events: Sequence[StreamEvent]) -> None:
        for event in events:
            if event.event_type == "agent_end" and event.data.total_tokens is not None:
                self.tokens[event.agent_name or "?"] += event.data.total_tokens


bill = Bill()
with Sidecar(bill) as sidecar:
    agent = sidecar.observe(Agent("test", name="support"))
    agent.run_sync("Where is my order?")
    agent.run_sync("And my refund?")
print(dict(bill.tokens))
