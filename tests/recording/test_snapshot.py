"""Snapshots: any value as plain, immutable data."""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import json
import math
import tracemalloc
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, computed_field
from pydantic_ai import Agent, BinaryContent, ImageUrl

from sidestream import InMemoryExporter, Sidecar, encode_line
from sidestream.events import Custom, ToolEnd, make_event
from sidestream.recording.snapshot import (
    CIRCULAR,
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_ITEMS,
    TOO_LARGE,
    pack,
    packed_text,
    snapshot,
    unpack,
)
from tests.support.provider_model import Says, call

pytestmark = pytest.mark.scenario_08


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


class Raising(BaseModel):
    name: str = "x"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def bad(self) -> str:
        raise RuntimeError("no value")


class Login(BaseModel):
    user: str
    password: SecretStr


@dataclass
class Point:
    x: int
    tags: list[str] = field(default_factory=list)
    inner: Any = None


class Color(enum.Enum):
    RED = "red"


def _cycle() -> dict[str, Any]:
    cycle: dict[str, Any] = {"a": 1}
    cycle["self"] = cycle
    return cycle


def _nested(levels: int) -> list[Any]:
    nested: list[Any] = ["deep"]
    for _ in range(levels - 1):
        nested = [nested]
    return nested


ANYTHING: dict[str, tuple[Callable[[], Any], Any]] = {
    "None": (lambda: None, None),
    "text": (lambda: "x", "x"),
    "huge int": (lambda: 2**70, 2**70),
    "pydantic model": (lambda: Login(user="u", password=SecretStr("p")), {"user": "u", "password": "**********"}),
    "model in a dict in a list": (lambda: [{"m": Login(user="u", password=SecretStr("p"))}], ...),
    "dataclass": (
        lambda: Point(1, ["a"], Point(2)),
        {"x": 1, "tags": ["a"], "inner": {"x": 2, "tags": [], "inner": None}},
    ),
    "enum": (lambda: Color.RED, "red"),
    "tuple": (lambda: {"t": (1, (2, 3))}, {"t": (1, (2, 3))}),
    "set": (lambda: {1}, [1]),
    "date": (lambda: datetime.date(2026, 1, 1), "2026-01-01"),
    "decimal": (lambda: decimal.Decimal("1.50"), "1.50"),
    "uuid": (lambda: uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "integer keys": (lambda: {1: "a"}, {"1": "a"}),
    "bytes": (lambda: b"\xff\x00", {"kind": "bytes", "bytes": 2}),
    "unprintable": (Unprintable, f"<{__name__}.Unprintable>"),
    "unprintable within": (lambda: {"a": [Unprintable()]}, ...),
    "raising model": (Raising, ...),
    "cycle": (_cycle, {"a": 1, "self": CIRCULAR}),
    "tuple keys": (lambda: {(1, 2): 3}, {"(1, 2)": 3}),
    "nested as deep as may be": (lambda: _nested(MAX_DEPTH - 1), _nested(MAX_DEPTH - 1)),
    "nested too deep": (lambda: _nested(200), ...),
    "nested without end": (lambda: _nested(100_000), ...),
    "generator": (lambda: (x for x in "abc"), ...),
    "class": (lambda: Point, ...),
    "exception": (lambda: ValueError("x"), "ValueError: x"),
    "lone surrogate": (lambda: {"\ud800": "\udfff"}, {"\ud800": "\udfff"}),
    "infinite": (lambda: [math.inf], [math.inf]),
    "endless sequence": (lambda: range(10**12), "range(0, 1000000000000)"),
}


@pytest.mark.parametrize("kind", ANYTHING)
def test_anything_can_be_taken_down(kind: str) -> None:
    """Valid JSON data; values without a JSON form appear as the name of their type."""
    make, expected = ANYTHING[kind]
    taken = snapshot(make())
    if expected is not ...:
        assert taken == expected
    _assert_plain(taken)
    line = encode_line(make_event(ToolEnd(tool_name="t", outcome="ok", result=taken)))
    assert json.loads(line)["event_type"] == "tool_end"


def _assert_plain(value: Any) -> None:
    assert type(value) in (type(None), bool, int, float, str, list, tuple, dict)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        _assert_plain(item)


def test_a_number_that_is_none_is_null_in_the_log() -> None:
    line = encode_line(make_event(Custom(name="x", payload=snapshot({"a": math.nan, "b": math.inf}))))
    assert json.loads(line)["data"]["payload"] == {"a": None, "b": None}


@given(
    value=st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text(), inner) | st.builds(Point, st.integers(), inner=inner)
        ),
        max_leaves=10,
    )
)
def test_a_snapshot_shares_nothing_that_can_change(value: Any) -> None:
    """Later changes of arguments or results by a tool are not logged."""
    taken = snapshot(value)
    before = copy.deepcopy(taken)
    _spoil(value)
    assert taken == before


def _spoil(value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _spoil(item)
        value.append("spoilt")
    elif isinstance(value, dict):
        for item in value.values():
            _spoil(item)
        value["spoilt"] = True
    elif isinstance(value, Point):
        _spoil(value.inner)
        value.x, value.inner = -1, "spoilt"
        value.tags.append("spoilt")


def test_a_text_of_50_megabytes_is_not_copied() -> None:
    text = "x" * 50_000_000
    tracemalloc.start()
    try:
        assert snapshot(text) is text
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_media_are_noted_not_copied() -> None:
    """An image in a prompt or a result is logged as type and size."""
    image = BinaryContent(b"\x89PNG" * 1_000, media_type="image/png")
    noted = {"kind": "binary", "media_type": "image/png", "bytes": 4_000}
    assert snapshot(image) == noted
    assert snapshot(["What is it?", image]) == ["What is it?", noted]
    assert snapshot({"page": Point(1, inner={"picture": image})})["page"]["inner"] == {"picture": noted}


def test_a_value_that_cannot_be_taken_down_changes_nothing_for_the_agent() -> None:
    """Arguments, results and outputs with a failing `repr`: the run, its result and its log are complete."""
    memory = InMemoryExporter()
    agent: Agent[None, Any] = Agent(Says([[call("odd")], ["fine"]]), name="a")

    @dataclass
    class Odd:
        part: int = 1

        def __repr__(self) -> str:
            raise ValueError("not to be printed")

        __str__ = __repr__

    @agent.tool_plain
    def odd() -> Any:
        return Odd()

    with Sidecar(memory) as sidecar:
        sidecar.observe(agent)
        assert agent.run_sync(["hi", "there"]).output == "fine"
        assert sidecar.stats().recording_errors == 0
    (end,) = memory.of("tool_end")
    assert (end.data["outcome"], end.data["result"]) == ("ok", {"part": 1})


def test_nobody_takes_content_down_that_no_exporter_may_see() -> None:
    """With `none` everywhere, `repr` is not even called."""
    printed = []

    @dataclass
    class Counting:
        def __repr__(self) -> str:
            printed.append(1)
            return "x"

    agent: Agent[None, Any] = Agent(Says([[call("odd")], ["fine"]]), name="a")

    @agent.tool_plain
    def odd() -> Any:
        return {"odd": Counting()}

    with Sidecar(InMemoryExporter(content="none")) as sidecar:
        agent.run_sync("hi")
        unobserved, printed[:] = len(printed), []
        sidecar.observe(agent).run_sync("hi")
    assert len(printed) == unobserved


def _doubled(levels: int) -> list[Any]:
    value: list[Any] = ["x"]
    for _ in range(levels):
        value = [value, value]
    return value


def _count(value: Any) -> int:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(1 + _count(item) for item in items)


class Held(BaseModel):
    anything: Any


class HeldMore(BaseModel, extra="allow"):
    pass


DOCUMENT = {f"k{number}": number for number in range(1_000)}


@pytest.mark.scenario_25
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(_doubled(60), id="sixty levels of two"),
        pytest.param([{"row": row, "doc": DOCUMENT} for row in range(1_000)], id="rows that share a document"),
        pytest.param([Point(row, inner=DOCUMENT) for row in range(1_000)], id="objects that share a document"),
        pytest.param(list(range(1_000_000)), id="a long list"),
        pytest.param(Held(anything=_doubled(60)), id="a model"),
        pytest.param(HeldMore.model_validate({"more": _doubled(60)}), id="extra fields of a model"),
        pytest.param(Held(anything=Held(anything=Point(1, inner=_doubled(60)))), id="an object in a model in a model"),
        pytest.param([Held(anything=_doubled(20))] * 1_000, id="many models"),
        pytest.param(Held(anything=[DOCUMENT] * 1_000), id="a model whose rows share a document"),
    ],
)
def test_shared_references_and_long_lists_are_cut_where_they_are_too_large(value: Any) -> None:
    """Fully expanded, the first value would be astronomically large."""
    taken = snapshot(value)
    assert _count(taken) <= 2 * MAX_ITEMS
    assert TOO_LARGE in str(taken)


def test_a_text_that_is_shared_is_cut_where_it_is_too_large() -> None:
    text = "x" * (MAX_CHARACTERS // 10)
    taken = snapshot([text] * 100)
    assert sum(map(len, taken)) < 1.1 * MAX_CHARACTERS


@pytest.mark.scenario_25
def test_no_code_of_a_value_is_run_that_need_not_be() -> None:
    """A `repr` may hang or query a database; iterating a custom list may do anything."""
    ran: list[str] = []

    class Nosy:
        def __repr__(self) -> str:
            ran.append("repr")
            return "x"

        __str__ = __repr__

    class Rows(list[int]):
        def __iter__(self) -> Any:
            ran.append("iter")
            return super().__iter__()

        def __len__(self) -> int:
            ran.append("len")
            return super().__len__()

    class Table(dict[str, Any]):
        def items(self) -> Any:
            ran.append("items")
            return super().items()

    snapshot([Nosy(), Rows([1, 2]), Table(a=Nosy()), {Nosy(): 1}, Nosy])
    assert ran == []


@pytest.mark.scenario_25
def test_a_base_exception_of_a_value_goes_no_further() -> None:
    """Extensions in Rust raise a BaseException on a panic."""

    class Panic(BaseException):
        pass

    class Model(BaseModel):
        def model_dump(self, **_: Any) -> Any:
            raise Panic

    assert "raises" in str(snapshot({"a": Model()}))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_meanwhile_is_the_program_s(error: type[BaseException]) -> None:
    class Model(BaseModel):
        def model_dump(self, **_: Any) -> Any:
            raise error

    with pytest.raises(error):
        snapshot(Model())


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=30,
    )
)
def test_plain_data_is_what_it_was(value: Any) -> None:
    assert unpack(pack(value)) == value


PICTURE = "iVBORw0KGgo" * 1_000


@pytest.mark.parametrize(
    "value",
    [
        f"data:image/png;base64,{PICTURE}",
        {"image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
        [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}}],
        {"content": [{"type": "audio", "mimeType": "audio/wav", "data": PICTURE}]},
        (1, ("x", [f"data:application/pdf;base64,{PICTURE}"])),
        ImageUrl(f"data:image/png;base64,{PICTURE}"),
    ],
    ids=["text", "openai", "anthropic", "mcp", "deep", "url"],
)
def test_media_in_base64_are_their_type_and_size_at_any_depth(value: Any) -> None:
    taken = repr(snapshot(value))
    assert PICTURE[:50] not in taken
    assert "'bytes': 8250" in taken


@pytest.mark.parametrize("value", ["data: none", {"data": "a short text", "media_type": "text/plain"}, {"data": 5}])
def test_other_data_are_left_as_they_are(value: Any) -> None:
    assert snapshot(value) == value


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (None, None),
        ('{"order": 1}', '{"order": 1}'),
        ({"order": 1, "names": ("a", "b")}, '{"order":1,"names":["a","b"]}'),
        ({"day": datetime.date(2026, 1, 2)}, '{"day":"2026-01-02"}'),
        ({"lone": "\ud800"}, '{"lone": "\\ud800"}'),
        ({(1, 2): 3}, '{"(1, 2)": 3}'),
    ],
)
def test_packed_arguments_are_written_as_json_text(args: Any, text: str | None) -> None:
    assert packed_text(pack(args)) == text
