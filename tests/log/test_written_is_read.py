"""Every line that the exporter writes is read without a problem."""

from __future__ import annotations

import builtins
import types
import typing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidestream import log
from sidestream.events import AnyEvent, Payload, StreamEvent, make_event
from sidestream_exporters.jsonl import JSONLExporter
from tests.support.log_builder import QUICK, Problems

pytestmark = pytest.mark.scenario_31

TEXT = st.text(max_size=20) | st.sampled_from(["", "\ud800", "\u2028\n\r", "\x00", '"\\', "é" * 300])
NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.booleans()
VALUES = st.recursive(
    st.none() | TEXT | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)

PAYLOADS: list[type[Payload]] = [get_type_hints(event)["data"] for event in get_args(AnyEvent)]


@st.composite
def events(draw: st.DrawFn) -> list[StreamEvent]:
    """Events of every type, with fields of their declared types and arbitrary content."""
    made = []
    for seq in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(PAYLOADS))
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        content: dict[str, Any] = {name: draw(VALUES) for name in kind.content_fields if draw(st.booleans())}
        if "text" in content:  # in a chunk
            content["text"] = draw(TEXT)
        own = {
            name: draw(_of_type(field.type))
            for name, field in fields.items()
            if name not in content and (field.required or draw(st.booleans()))
        }
        made.append(make_event(kind(**own, **content), run_id=draw(TEXT), seq=seq, agent_name=draw(TEXT)))
    return made


def _of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Values of `kind`, as the event model declares it."""
    inner = get_args(kind)
    match get_origin(kind) or kind:
        case typing.Literal:
            return st.sampled_from(inner)
        case typing.Union | types.UnionType:
            return st.one_of(*map(_of_type, inner))
        case builtins.list:
            return st.lists(_of_type(inner[0]), max_size=3) if inner else st.lists(VALUES, max_size=3)
        case builtins.dict:
            return st.dictionaries(_of_type(inner[0]), _of_type(inner[1]), max_size=3)
        case builtins.int:
            return st.integers(-(2**70), 2**70)
        case builtins.float:
            return st.floats(allow_nan=False, allow_infinity=False)
        case builtins.str:
            return TEXT
        case builtins.bool:
            return st.booleans()
        case types.NoneType:
            return st.none()
        case struct if isinstance(struct, type) and issubclass(struct, msgspec.Struct):
            return st.fixed_dictionaries(
                {field.name: _of_type(field.type) for field in msgspec.structs.fields(struct)}
            ).map(lambda fields: struct(**fields))
        case _:
            return VALUES


@QUICK
@given(events())
def test_every_line_that_is_written_is_read(written: list[StreamEvent]) -> None:
    with TemporaryDirectory() as folder:
        exporter = JSONLExporter(f"{folder}/runs/")
        exporter.start()
        exporter.export(written)
        exporter.close()
        problems = Problems()
        found = list(log.read(Path(folder) / "runs", on_problem=problems))
    assert problems == []
    assert [event.seq for event in found] == [event.seq for event in written]
    assert [event.event_type for event in found] == [event.event_type for event in written]
