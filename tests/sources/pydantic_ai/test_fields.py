"""Messages are read without `__dict__`, whose creation slows down later attribute access of the program."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.usage import RequestUsage

from sidestream import InMemoryExporter, Sidecar
from sidestream.sources.pydantic_ai.convert import shallow_copy
from sidestream.sources.pydantic_ai.fields import KINDS, FieldsByType
from tests.support.provider_model import Says, call


def _objects(messages: list[ModelMessage]) -> Iterator[Any]:
    for message in messages:
        yield from (message, *message.parts)
        if message.kind == "response":
            yield message.usage


def _with_dict(messages: list[ModelMessage]) -> list[str]:
    """Types of objects within `messages` that have a materialized attribute dict."""
    kinds = []
    for each in _objects(messages):
        names = FieldsByType()[type(each)].names
        if any(type(held) is dict and set(names) <= held.keys() for held in gc.get_referents(each)):
            kinds.append(type(each).__name__)
    return kinds


def _run(agent: Agent[None, str]) -> list[ModelMessage]:
    @agent.tool_plain
    def look_up(order: str) -> str:
        return "sent"

    return asyncio.run(agent.run("go")).all_messages()


def test_no_object_of_a_history_is_given_a_dict() -> None:
    def model() -> Says:
        return Says([[call("look_up", {"order": "1"})], ["sent"]])

    bare = _with_dict(_run(Agent(model())))
    with Sidecar(InMemoryExporter()) as sidecar:
        assert _with_dict(_run(sidecar.observe(Agent(model())))) == bare


def test_what_is_read_of_a_dataclass_is_its_fields() -> None:
    @dataclass
    class Part:
        content: str
        unset: str = field(init=False)
        left_out: int = 0

    @dataclass
    class Single:
        content: str

    names, read = FieldsByType(but=frozenset({"left_out"}))[Part]
    assert dict(zip(names, read(Part("text")), strict=True)) == {"content": "text", "unset": None}
    assert FieldsByType()[Single].read(Single("text")) == ("text",)


def test_fields_of_unlimited_types_are_read_and_not_all_kept() -> None:
    known = FieldsByType()
    for number in range(KINDS + 10):
        kind = make_dataclass(f"Part{number}", ["content"])
        assert known[kind].read(kind(number)) == (number,)
    assert len(known) == KINDS


def test_a_copied_answer_says_what_the_answer_said_when_it_came() -> None:
    usage = RequestUsage(input_tokens=3, output_tokens=2, details={"cached": 1})
    response = ModelResponse([TextPart("hello")], usage=usage, model_name="m", provider_details={"a": "b"})
    copy = shallow_copy(response)
    assert copy is not None
    usage.input_tokens, usage.details["cached"] = 900, 900
    response.provider_details = {}
    again = copy.response()
    assert again.usage == RequestUsage(input_tokens=3, output_tokens=2, details={"cached": 1})
    assert (again.model_name, again.provider_details) == ("m", {"a": "b"})
    assert list(again.parts) == []
