"""Events: factories, dict-like access, encoding as one line, and decoding."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidestream import (
    InvalidEventError,
    StreamEvent,
    StreamEventType,
    agent_end_event,
    agent_start_event,
    decode_line,
    encode_line,
    error_event,
    llm_chunk_event,
    progress_event,
    tool_end_event,
    tool_start_event,
)
from sidestream.events import AnyEvent, Custom, LLMChunk, Payload, Usage, make_event, split_pieces

pytestmark = pytest.mark.scenario_08

PAYLOADS: tuple[type[Payload], ...] = tuple(get_type_hints(event)["data"] for event in get_args(AnyEvent))


# --- factories -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "event_type", "data"),
    [
        (llm_chunk_event(text="Hello"), "llm_chunk", {"text": "Hello"}),
        (
            tool_start_event(tool_name="read_file", args={"path": "/tmp/test.txt"}),
            "tool_start",
            {"tool_name": "read_file", "args": {"path": "/tmp/test.txt"}},
        ),
        (
            tool_end_event(tool_name="read_file", result="contents", duration_seconds=0.5),
            "tool_end",
            {"tool_name": "read_file", "result": "contents", "duration_seconds": 0.5},
        ),
        (
            progress_event(iteration=2, total_tokens=150, total_cost_usd=0.005),
            "progress",
            {"iteration": 2, "total_tokens": 150, "total_cost_usd": 0.005},
        ),
        (
            error_event(error="File not found", exception_type="FileNotFoundError"),
            "error",
            {"error": "File not found", "exception_type": "FileNotFoundError"},
        ),
        (agent_start_event(agent_name="assistant", prompt="Hi"), "agent_start", {"prompt": "Hi"}),
        (
            agent_end_event("assistant", True, 5.2, total_iterations=3, total_tokens=250),
            "agent_end",
            {"success": True, "total_iterations": 3, "total_tokens": 250, "duration_seconds": 5.2},
        ),
    ],
)
def test_factories_make_the_events_of_the_streaming_guide(
    event: StreamEvent, event_type: str, data: dict[str, Any]
) -> None:
    """Names, parameters and data keys match the guide."""
    assert event.event_type == event_type
    assert data.items() <= dict(event.data).items()
    assert decode_line(encode_line(event)) == event


def test_the_agents_name_stands_in_the_envelope() -> None:
    assert (
        agent_start_event("assistant").agent_name == agent_end_event("assistant", True, 1.0).agent_name == "assistant"
    )


def test_a_run_that_failed_has_the_outcome_error_unless_told_otherwise() -> None:
    assert agent_end_event("a", False, 1.0).data["outcome"] == "error"
    assert agent_end_event("a", False, 1.0, outcome="cancelled").data["outcome"] == "cancelled"


NOT_A_TEXT = st.one_of(st.none(), st.integers(), st.booleans(), st.binary(), st.lists(st.text()))
NO_NAME = st.one_of(NOT_A_TEXT, st.just(""))
NO_COUNT = st.one_of(st.none(), st.text(), st.booleans(), st.just(1.5), st.lists(st.integers()))
NO_NUMBER = st.one_of(st.text(), st.booleans(), st.lists(st.floats()))
FACTORIES: dict[str, tuple[Any, dict[str, Any], dict[str, st.SearchStrategy[Any]]]] = {
    "llm_chunk_event": (llm_chunk_event, {"text": "x"}, {"text": NOT_A_TEXT, "kind": st.sampled_from(["bogus", 1])}),
    "tool_start_event": (tool_start_event, {"tool_name": "t"}, {"tool_name": NO_NAME, "tool_call_id": st.integers()}),
    "tool_end_event": (
        tool_end_event,
        {"tool_name": "t"},
        {"tool_name": NO_NAME, "duration_seconds": NO_NUMBER, "outcome": st.sampled_from(["fine", "", None])},
    ),
    "progress_event": (
        progress_event,
        {"iteration": 1},
        {"iteration": NO_COUNT, "total_tokens": NO_COUNT.filter(lambda v: v is not None), "total_cost_usd": NO_NUMBER},
    ),
    "error_event": (
        error_event,
        {"error": "e"},
        {"error": NO_NAME, "exception_type": st.integers(), "where": st.sampled_from(["nowhere", None])},
    ),
    "agent_start_event": (agent_start_event, {"agent_name": "a"}, {"agent_name": NO_NAME, "run_id": st.integers()}),
    "agent_end_event": (
        agent_end_event,
        {"agent_name": "a", "success": True, "duration_seconds": 1.0},
        {
            "agent_name": NO_NAME,
            "success": st.one_of(st.none(), st.integers(), st.text()),
            "duration_seconds": st.one_of(st.sampled_from([None, math.nan, math.inf]), NO_NUMBER),
            "total_tokens": st.text(),
            "outcome": st.sampled_from(["lost", "fine"]),
            "seq": st.text(),
            "timestamp": st.text(min_size=1),
        },
    ),
}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, (_, _, bad) in FACTORIES.items() for field in bad])
@given(data=st.data())
@settings(max_examples=25)
def test_a_factory_names_the_field_that_is_wrong(name: str, field: str, data: st.DataObject) -> None:
    """A value of the wrong type raises InvalidEventError with the field's name, and makes no event."""
    factory, good, bad = FACTORIES[name]
    value = data.draw(bad[field])
    with pytest.raises(InvalidEventError, match=field):
        factory(**{**good, field: value})


@given(
    duration=st.floats(0, 1e9), tokens=st.none() | st.integers(0, 2**60), cost=st.none() | st.floats(0, 1e6), args=...
)
def test_what_a_factory_accepts_can_be_read_back(
    duration: float, tokens: int | None, cost: float | None, args: dict[str, str | int | None] | list[bool] | str | None
) -> None:
    for event in (
        tool_start_event("t", args),
        tool_end_event("t", args, duration),
        progress_event(1, tokens, cost),
        agent_start_event("a", args, run_id="r"),
        agent_end_event("a", True, duration, total_tokens=tokens),
    ):
        line = encode_line(event)
        assert encode_line(decode_line(line)) == line


@pytest.mark.parametrize("data", [{"a": 1}, None, "text", Usage(input_tokens=1)])
def test_only_a_payload_of_an_event_makes_an_event(data: Any) -> None:
    with pytest.raises(InvalidEventError):
        make_event(data)


# --- payloads read like dicts --------------------------------------------------------------------------------------


def test_a_payload_reads_like_the_dict_it_becomes() -> None:
    data = progress_event(2, total_tokens=150).data
    assert data["iteration"] == 2
    assert data.get("total_tokens", 0) == 150
    assert "iteration" in data
    assert dict(data) == {**data} == {"iteration": 2, "total_tokens": 150}
    assert list(data) == data.keys() == ["iteration", "total_tokens"]


def test_what_is_absent_is_absent_in_every_way_of_reading() -> None:
    data = progress_event(2).data
    assert data.get("total_cost_usd", 0.0) == 0.0
    assert data.get("total_cost_usd") is None
    assert "total_cost_usd" not in data
    assert "total_cost_usd" not in dict(data)
    with pytest.raises(KeyError, match="total_cost_usd"):
        data["total_cost_usd"]


@pytest.mark.parametrize("name", ["keys", "get", "content_fields", "__class__", "no_such_field", 3, None])
def test_only_fields_can_be_read_as_items(name: Any) -> None:
    """Methods and attributes are not items."""
    data = progress_event(2).data
    assert name not in data
    assert data.get(name, "default") == "default"
    with pytest.raises(KeyError):
        data[name]


# --- one event, one line -------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=8,
)
NASTY_TEXT = st.text(st.characters(categories=("L", "Cc", "Cs", "Cf", "Zl", "Zp")), max_size=20)
NASTY = st.recursive(
    st.floats() | st.integers() | NASTY_TEXT | st.binary(max_size=20) | st.just(2**200) | st.just("\u2028\u0085\r\n"),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(NASTY_TEXT, children, max_size=4),
    max_leaves=8,
)


def _fields(payload: type[Payload]) -> st.SearchStrategy[Payload]:
    """Payloads of a type with arbitrary values of its fields."""
    hints = {field.encode_name: field for field in msgspec.structs.fields(payload)}
    return st.fixed_dictionaries(
        {name: _values(field.type) for name, field in hints.items() if field.required},
        optional={name: _values(field.type) for name, field in hints.items() if not field.required},
    ).map(lambda fields: payload(**fields))


def _values(hint: Any) -> st.SearchStrategy[Any]:
    if hint is Any:
        return JSON
    if isinstance(hint, type) and issubclass(hint, Payload):
        return _fields(hint)
    options = [_values(option) for option in get_args(hint)] if get_args(hint) else []
    match getattr(hint, "__origin__", hint):
        case origin if origin is list:
            return st.lists(options[0], max_size=3)
        case origin if origin is dict:
            return st.dictionaries(options[0], options[1], max_size=3)
        case origin if str(origin) == "typing.Literal":
            return st.sampled_from(get_args(hint))
        case _ if options:
            return st.one_of(options)
        case origin if origin is float:
            return st.floats(allow_nan=False, allow_infinity=False)
        case origin if origin is int:
            return st.integers(0, 2**53)
        case origin:
            return st.from_type(origin)


ENVELOPES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "timestamp": st.datetimes(timezones=st.just(UTC)),
        "offset": st.floats(0, 1e9),
        "run_id": st.text(),
        "seq": st.integers(0, 2**53),
        "agent_name": st.none() | st.text(),
    }
)


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.__name__)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_event_is_one_line_that_reads_back_as_itself(payload: type[Payload], data: st.DataObject) -> None:
    """One newline at the end; plain JSON; the type first; every field preserved."""
    event = make_event(data.draw(_fields(payload)), **data.draw(ENVELOPES))
    line = encode_line(event)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line.startswith(b'{"event_type":"%s",' % event.event_type.encode())
    assert json.loads(line)["data"].keys() == set(event.data)
    assert decode_line(line) == event
    assert decode_line(line.decode()) == event


@given(payload=NASTY, text=NASTY_TEXT)
@example(payload={"text": "\udc80abc", "lengths": ["a", None]}, text="")
@example(payload={"text": "\udc80abc", "lengths": [10**9, -3]}, text="")
@example(payload=[math.nan, math.inf, -math.inf], text="\x00\x1b[31m")
def test_nothing_a_user_writes_breaks_the_line(payload: Any, text: str) -> None:
    """NaN, huge integers, lone surrogates, control characters and bytes become one line of valid UTF-8 JSON."""
    line = encode_line(make_event(Custom(name=text, payload=payload), agent_name=text))
    assert line.count(b"\n") == 1
    assert line.isascii() or line.decode("utf-8")
    assert json.loads(line)["event_type"] == "custom"
    assert decode_line(line).event_type == "custom"


class _Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def _cyclic() -> list[Any]:
    cycle: list[Any] = []
    cycle.append({"again": cycle})
    return cycle


def _deep(levels: int) -> list[Any]:
    deep: list[Any] = []
    for _ in range(levels):
        deep = [deep]
    return deep


NO_JSON: dict[str, Callable[[], Any]] = {
    "cycle": _cyclic,
    "nested without end": lambda: _deep(100_000),
    "unprintable": _Unprintable,
    "keys that are no text": lambda: {(1, 2): 3},
    "set": lambda: {1, "a"},
    "object": object,
    "function": lambda: _deep,
}


@pytest.mark.parametrize("kind", NO_JSON)
def test_what_is_no_json_at_all_is_a_line_all_the_same(kind: str) -> None:
    """Cycles, deep nesting and unprintable objects: the event is written, and its neighbours are intact."""
    payload = NO_JSON[kind]()
    event = decode_line(encode_line(make_event(Custom(name="x", payload=payload), run_id="r", seq=7)))
    assert (event.run_id, event.seq, event.data["name"]) == ("r", 7, "x")


def test_megabytes_stay_on_one_line() -> None:
    text = "é\n\u2028" * 1_700_000
    line = encode_line(make_event(LLMChunk(kind="text", text=text)))
    assert line.count(b"\n") == 1
    assert decode_line(line).data["text"] == text


def test_integers_beyond_64_bits_are_written_digit_by_digit() -> None:
    line = encode_line(make_event(Custom(name="x", payload=2**200)))
    assert json.loads(line)["data"]["payload"] == 2**200


@given(
    st.datetimes(
        min_value=datetime(1971, 1, 1),
        max_value=datetime(2200, 1, 1),
        timezones=st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours))),
    )
)
def test_a_timestamp_is_the_same_moment_when_read_back(moment: datetime) -> None:
    event = make_event(Custom(name="x"), timestamp=moment)
    assert decode_line(encode_line(event)).timestamp == moment


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"event_type":"custom"',
        b"\xff\xfe",
        "\ud800",
        b'{"event_type":"agent_exploded","v":1,"timestamp":"2026-01-01T00:00:00Z","data":{}}',
        b'{"event_type":"custom","v":2,"timestamp":"2026-01-01T00:00:00Z","data":{"name":"x"}}',
        b'{"event_type":"custom","timestamp":"2026-01-01T00:00:00Z","data":{"name":5}}',
        b'{"event_type":"custom","v":1,"data":{"name":"x"}}',
        b'{"event_type":"custom","v":1,"timestamp":"yesterday","data":{"name":"x"}}',
        b'{"event_type":"custom","v":1,"timestamp":"2026-01-01T00:00:00Z","data":{"name":"x","payload":%s}}'
        % (b"[" * 50_000 + b"]" * 50_000),
    ],
    ids=lambda line: str(line)[:60],
)
def test_a_line_that_is_no_event_says_so(line: bytes | str) -> None:
    """Only InvalidEventError for any input, so that a reader can continue with the next line."""
    with pytest.raises(InvalidEventError, match="not a Sidestream event"):
        decode_line(line)


def test_fields_that_a_later_version_adds_are_passed_over() -> None:
    line = encode_line(progress_event(1)).replace(b'"iteration":1', b'"iteration":1,"mood":"good"')
    assert decode_line(line) == decode_line(line.replace(b',"mood":"good"', b""))


# --- deltas --------------------------------------------------------------------------------------------------------


@given(st.lists(NASTY_TEXT | st.text(), max_size=20))
def test_the_deltas_of_a_chunk_come_back_exactly(pieces: list[str]) -> None:
    assert split_pieces("".join(pieces), [len(piece) for piece in pieces]) == pieces


@given(st.lists(st.text(st.characters(categories=("L", "Cs")), max_size=5), max_size=10))
def test_the_deltas_of_a_chunk_survive_the_log(pieces: list[str]) -> None:
    """Lone surrogates are escaped piece by piece, so that the number and the borders of pieces are preserved."""
    chunk = LLMChunk(kind="text", text="".join(pieces), lengths=[len(piece) for piece in pieces])
    data = decode_line(encode_line(make_event(chunk))).data
    assert split_pieces(data.get("text", ""), data["lengths"]) == [
        piece.encode("utf-8", "backslashreplace").decode() for piece in pieces
    ]


def test_event_types_are_the_texts_in_the_log() -> None:
    assert f"{StreamEventType.LLM_CHUNK}" == "llm_chunk"
    assert "llm_chunk" in {StreamEventType.LLM_CHUNK}
    assert {event.event_type for event in get_args(AnyEvent)} == set(StreamEventType)
