"""Offline model for examples that need certain answers: streams scripted answers unless `MODEL` names a real model."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pydantic_ai.messages import ModelMessage, ToolCallPart
from pydantic_ai.models import Model
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

Answer = str | ToolCallPart | Mapping[str, Any]


def model(*answers: Answer) -> Model | str:
    """Model named by `MODEL`, else a scripted one that gives `answers` in turn.

    An answer is a text, a tool call, or the fields of a structured output.
    """
    if name := os.environ.get("MODEL"):
        return name
    left = iter(answers)

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        answer = next(left)
        if isinstance(answer, str):
            for word in re.findall(r"\S+\s*", answer):
                yield word
                await asyncio.sleep(0.002)
        elif isinstance(answer, ToolCallPart):
            yield {0: DeltaToolCall(answer.tool_name, answer.args_as_json_str())}
        else:
            [tool, *_] = [each for each in info.output_tools if answer.keys() <= _fields(each.parameters_json_schema)]
            yield {0: DeltaToolCall(tool.name)}
            for piece in re.findall(r".{1,12}", json.dumps(answer)):
                yield {0: DeltaToolCall(json_args=piece)}
                await asyncio.sleep(0.002)

    return FunctionModel(stream_function=stream)


def _fields(schema: Mapping[str, Any]) -> set[str]:
    return set(schema["properties"])
