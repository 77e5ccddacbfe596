"""Content policies: texts of people and models reach only exporters whose policy allows them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai import Agent, ThinkingPart

from sidestream import ConfigurationError, ContentPolicy, InMemoryExporter, Sidecar, StreamEvent, encode_line
from sidestream.events import (
    AnyEvent,
    Attempt,
    Custom,
    LLMChunk,
    LLMEnd,
    Payload,
    make_event,
)
from sidestream.recording.content import REDACTION_FAILED, apply_policy
from tests.support.provider_model import Says, call, stream

PAYLOADS: dict[str, type[Payload]] = {
    payload.__name__: payload for payload in [get_type_hints(event)["data"] for event in get_args(AnyEvent)]
}
SECRET = "the-quick-brown-secret"


@dataclass
class Point:
    x: int
    tags: list[str]


# --- which fields are content --------------------------------------------------------------------------------------

NO_CONTENT = {"LLMStart.settings", "LLMEnd.provider_details"}
"""Fields of a general type that only ever hold numbers and names."""


def _could_hold_anything(hint: Any) -> bool:
    return hint is Any or any(_could_hold_anything(part) for part in get_args(hint))


@pytest.mark.parametrize("payload", [*PAYLOADS.values(), Attempt], ids=lambda payload: payload.__name__)
def test_a_field_that_could_hold_anything_is_content_or_known_to_be_harmless(payload: type[Payload]) -> None:
    """Fails for a new field that is not classified as content or harmless."""
    for name, hint in get_type_hints(payload).items():
        if name not in ("content_fields",) and _could_hold_anything(hint):
            assert name in payload.content_fields or f"{payload.__name__}.{name}" in NO_CONTENT


CONTENT_FIELDS = [(name, field) for name, payload in PAYLOADS.items() for field in payload.content_fields]


def test_the_content_fields_are_these() -> None:
    """Explicit list, so that an accidental removal is noticed."""
    assert sorted(f"{payload}.{name}" for payload, name in CONTENT_FIELDS) == [
        "AgentStart.prompt",
        "Custom.payload",
        "Error.error",
        "FinalResult.output",
        "LLMChunk.text",
        "LLMEnd.error",
        "LLMEnd.part_details",
        "LLMStart.instructions",
        "LLMStart.output_schema",
        "LLMStart.sent",
        "LLMStart.stop_sequences",
        "LLMStart.tools",
        "Retry.message",
        "Score.comment",
        "ToolEnd.error",
        "ToolEnd.result",
        "ToolStart.args",
    ]


def _event(payload: str, /, **fields: Any) -> StreamEvent:
    """Event of a type with `fields`, and some value for each other required field."""
    cls = PAYLOADS[payload]
    needed: dict[str, Any] = {}
    for info in msgspec.structs.fields(cls):
        if info.required:
            options = get_args(info.type)
            needed[info.name] = options[0] if options else {str: "x", int: 1, float: 1.0, bool: True}[info.type]
    return make_event(cls(**(needed | fields)))


VALUES = {
    "text": SECRET,
    "dict": {"key": SECRET, "list": [SECRET, {SECRET: 1}]},
    "list": [SECRET, None, 3],
    "tuples": {"deep": [(1, (SECRET,))]},
}


@pytest.mark.parametrize(("payload", "name"), CONTENT_FIELDS)
@pytest.mark.parametrize("value", VALUES.values(), ids=list(VALUES))
class TestPolicies:
    """For every content field of every payload."""

    def test_none_leaves_nothing(self, payload: str, name: str, value: Any) -> None:
        line = encode_line(apply_policy(_event(payload, **{name: value}), ContentPolicy.parse("none"), None))
        assert SECRET.encode() not in line
        assert name not in json.loads(line)["data"]

    def test_metadata_leaves_type_and_length(self, payload: str, name: str, value: Any) -> None:
        shown = apply_policy(_event(payload, **{name: value}), ContentPolicy.parse("metadata"), None)
        assert shown.data[name] == {"type": type(value).__name__, "length": len(value)}

    def test_truncated_leaves_the_beginning_of_each_text(self, payload: str, name: str, value: Any) -> None:
        shown = apply_policy(_event(payload, **{name: value}), ContentPolicy.parse("truncated(4)"), None)
        texts = list(_texts(shown.data[name]))
        assert f"{SECRET[:4]}… (+{len(SECRET) - 4} characters)" in texts
        assert SECRET not in texts

    def test_full_leaves_the_event_as_it_is(self, payload: str, name: str, value: Any) -> None:
        event = _event(payload, **{name: value})
        assert apply_policy(event, ContentPolicy.parse("full"), None) is event

    def test_the_redactor_sees_each_text_and_key(self, payload: str, name: str, value: Any) -> None:
        event = _event(payload, **{name: value})
        for policy in ("full", "truncated(1000)"):
            shown = apply_policy(event, ContentPolicy.parse(policy), lambda text: text.replace(SECRET, "***"))
            assert SECRET.encode() not in encode_line(shown)
            assert "***" in list(_texts(shown.data[name])) + list(_keys(shown.data[name]))

    def test_the_event_itself_is_never_changed(self, payload: str, name: str, value: Any) -> None:
        event = _event(payload, **{name: value})
        before = encode_line(event)
        for policy in ("none", "metadata", "truncated(1)", "full"):
            apply_policy(event, ContentPolicy.parse(policy), lambda text: "***")
        assert encode_line(event) == before

    def test_a_redactor_that_fails_shows_nothing(self, payload: str, name: str, value: Any) -> None:
        class Odd:
            def __eq__(self, other: object) -> bool:
                raise RuntimeError("not comparable")

        def raises(text: str) -> str:
            raise RuntimeError(text)

        for redact in (raises, lambda text: None, lambda text: text.encode(), lambda text: Odd()):
            shown = apply_policy(_event(payload, **{name: value}), ContentPolicy.parse("full"), redact)  # type: ignore[arg-type]
            assert SECRET.encode() not in encode_line(shown)
            assert REDACTION_FAILED in list(_texts(shown.data[name])) + list(_keys(shown.data[name]))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from _keys(item)


@pytest.mark.parametrize("policy", ["none", "metadata", "truncated(3)"])
def test_the_errors_of_failed_attempts_are_content(policy: str) -> None:
    attempt = Attempt(model="m", outcome="error", error=SECRET)
    end = make_event(
        LLMEnd(request=1, outcome="ok", duration_seconds=1, usage_source="none", failed_attempts=[attempt])
    )
    shown = apply_policy(end, ContentPolicy.parse(policy), None)
    assert SECRET.encode() not in encode_line(shown)
    assert shown.data["failed_attempts"][0].model == "m"


def test_the_lengths_of_deltas_go_when_the_text_changes() -> None:
    """The lengths would cut the changed text at wrong positions; times of deltas are not secret, and stay."""
    chunk = make_event(LLMChunk(kind="text", text="abcdef", lengths=[3, 3], offsets_us=[0, 100_000]))
    for policy, redact in (("none", None), ("metadata", None), ("truncated(3)", None), ("full", lambda text: "*")):
        data = apply_policy(chunk, ContentPolicy.parse(policy), redact).data
        assert "lengths" not in data
        assert data["offsets_us"] == [0, 100_000]
    for policy, redact in (("truncated(6)", None), ("full", lambda text: text)):
        assert apply_policy(chunk, ContentPolicy.parse(policy), redact) is chunk


@pytest.mark.parametrize("text", ["none", "NONE ", "metadata", "truncated(10)", "truncated:10", "full"])
def test_a_policy_reads_back_as_itself(text: str) -> None:
    policy = ContentPolicy.parse(text)
    assert ContentPolicy.parse(str(policy)) == policy == ContentPolicy.parse(policy)


@pytest.mark.parametrize("text", ["", "some", "truncated", "truncated()", "truncated(-1)", "truncated(1.5)", "full!"])
def test_a_policy_that_does_not_exist_is_a_clear_error(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"choose none, metadata, truncated\(N\) or full"):
        ContentPolicy.parse(text)


def test_what_a_caller_puts_into_an_event_of_its_own_is_redacted_whatever_it_is() -> None:
    """Objects and bytes do not belong in an event, and cannot bypass the redactor."""

    class Holder:
        def __repr__(self) -> str:
            return f"Holder({SECRET})"

    def redact(text: str) -> str:
        return text.replace(SECRET, "***")

    for payload in (Holder(), {"a": {Holder()}}, (Holder(),), {Holder(): 1}, Point(1, [SECRET])):
        for policy in ("full", "truncated(5)"):
            event = apply_policy(make_event(Custom(name="x", payload=payload)), ContentPolicy.parse(policy), redact)
            assert SECRET.encode() not in encode_line(event)


def test_a_value_nested_without_end_does_not_cost_the_event() -> None:
    """An event made by a caller; values of an agent are bounded when recorded."""
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    for policy, redact in (("truncated(3)", None), ("full", str.upper)):
        assert (
            "payload"
            in apply_policy(make_event(Custom(name="x", payload=deep)), ContentPolicy.parse(policy), redact).data
        )


# --- the redactor and the seams of a stream ------------------------------------------------------------------------


@given(cuts=st.lists(st.integers(1, len(SECRET) - 1), max_size=6))
@settings(max_examples=20, deadline=None)
def test_a_secret_split_over_deltas_never_appears(cuts: list[int]) -> None:
    """In text, thinking and arguments, regardless of the split into deltas, and with flushes in between."""
    edges = [0, *sorted(set(cuts)), len(SECRET)]
    pieces = [SECRET[start:end] for start, end in pairwise(edges)]
    memory = InMemoryExporter()
    sidecar = Sidecar(memory, redact=lambda text: text.replace(SECRET, "***"))
    agent = Agent(
        Says([[ThinkingPart(f"{SECRET}?"), call("look", {"for": SECRET})], ["It is ", *pieces, ", I think."]]), name="a"
    )

    @agent.tool_plain(name="look")
    def look(**args: Any) -> str:
        return f"found {SECRET}"

    async def main() -> None:
        async with sidecar.observe(agent).run_stream_events(SECRET) as events:
            async for _ in events:
                sidecar.flush(0.01)

    asyncio.run(main())
    sidecar.close()
    assert sidecar.stats().recording_errors == 0
    texts = [str(event.data["text"]) for event in memory.of("llm_chunk")]
    assert "It is ***, I think." in texts
    assert any("?" in text for text in texts)
    for event in memory:
        assert SECRET.encode() not in encode_line(event)
    told = b"".join(b"".join(_strings(json.loads(encode_line(event))["data"])) for event in memory)
    assert SECRET.encode() not in told


def _strings(value: Any) -> list[bytes]:
    return [text.encode() for text in _texts(value)]


def test_deltas_can_be_had_back_from_a_redacted_stream_that_held_nothing() -> None:
    memory = InMemoryExporter()
    with Sidecar(memory, redact=lambda text: text) as sidecar:
        asyncio.run(stream(sidecar.observe(Agent(Says([["a", "bc", "d"]])))))
    (chunk,) = memory.of("llm_chunk")
    assert (chunk.data["text"], chunk.data["lengths"]) == ("abcd", [1, 2, 1])


def test_each_exporter_sees_what_its_own_policy_allows() -> None:
    exporters = {policy: InMemoryExporter(content=policy) for policy in ("none", "metadata", "truncated(2)", "full")}
    with Sidecar(*exporters.values()) as sidecar:
        sidecar.observe(Agent(Says([["answer"]]), name="a")).run_sync("question")
    prompts = {policy: memory.of("agent_start")[0].data.get("prompt") for policy, memory in exporters.items()}
    assert prompts == {
        "none": None,
        "metadata": {"type": "str", "length": 8},
        "truncated(2)": "qu… (+6 characters)",
        "full": "question",
    }
