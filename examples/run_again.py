"""Replay of a failed run from the log: offline, without the provider, before and after the bug is fixed."""

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sidestream import Sidecar, log
from sidestream.testing import ModelFromLog, RequestDiffers


def provider(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    if len(messages) == 1:
        return ModelResponse(parts=[ToolCallPart("price_of", {"item": "lamp"})])
    return ModelResponse(parts=[TextPart("It costs 19 euros.")])


agent = Agent(FunctionModel(provider), name="shop", instructions="Be brief.")
broken = True


@agent.tool_plain
def price_of(item: str) -> int:
    if broken:
        raise KeyError(item)
    return 19


with Sidecar("jsonl:runs/") as sidecar:  # in production, last night
    sidecar.observe(agent)
    try:
        agent.run_sync("What does the lamp cost?")
    except KeyError as error:
        print("in production:", repr(error))
    sidecar.unobserve(agent)

[group] = log.errors("runs/")
print("in the log:", group.exception_type, "at", (group.place or "").rpartition("/")[2])

with ModelFromLog("runs/", run=group.last_run_id).override(agent):  # later, on a developer's machine
    try:
        agent.run_sync("What does the lamp cost?")
    except KeyError as error:
        print("again:", repr(error))

    broken = False

# With the bug fixed, the run takes another course than the logged one, for which the log has no answers.
with ModelFromLog("runs/", run=group.last_run_id).override(agent):
    try:
        agent.run_sync("What does the lamp cost?")
    except RequestDiffers as differs:
        print("mended:", differs)
