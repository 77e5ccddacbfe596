"""Interpretation of a tapped stream's items."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestream import (
    ConfigurationError,
    InMemoryExporter,
    Sidecar,
    agent_end_event,
    agent_start_event,
    error_event,
    llm_chunk_event,
    tool_end_event,
    tool_start_event,
)
from sidestream.adapters import StreamRecorder
from sidestream.events import LLMEnd, LLMStart, Usage, make_event
from sidestream.sources.adapters import registry
from sidestream.testing.adapters import events_of
from tests.support.tapped_streams import Watching, gen


def read(watching: Watching, items: Any, **about: Any) -> None:
    for _ in watching.sidecar.tap(items, **about):
        pass


# --- text ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(st.text(), max_size=700))
def test_the_log_holds_every_piece_of_text_as_it_came(pieces: list[str]) -> None:
    watching = Watching()
    with watching.sidecar:
        read(watching, gen(pieces), adapter="text")
        chunks = [event.data for event in watching.events("llm_chunk")]
        assert "".join(chunk.text for chunk in chunks) == "".join(pieces)
        assert [length for chunk in chunks for length in chunk.lengths] == [len(piece) for piece in pieces]
        if pieces:
            assert watching.events("llm_end")[0].data.chunks == len(pieces)


@settings(max_examples=30, deadline=None)
@given(text=st.text(), size=st.integers(1, 5))
def test_bytes_may_be_cut_in_the_middle_of_a_character(text: str, size: int) -> None:
    encoded = text.encode()
    watching = Watching()
    with watching.sidecar:
        read(watching, [encoded[i : i + size] for i in range(0, len(encoded), size)])
        assert watching.text() == text


def test_bytes_that_end_within_a_character_are_shown_as_cut(watching: Watching) -> None:
    read(watching, ["é".encode() + b"\xc3"])
    assert watching.text() == "é\N{REPLACEMENT CHARACTER}"


def test_with_a_redactor_a_text_is_exported_when_it_is_whole() -> None:
    watching = Watching(redact=lambda text: text.replace("secret", "***"))
    with watching.sidecar:
        read(watching, gen(["my sec", "ret"]))
        assert watching.text() == "my ***"


def test_no_content_is_kept_where_no_exporter_may_see_it() -> None:
    memory = InMemoryExporter(content="none")
    with Sidecar(memory) as sidecar:
        for items in (["SENTINEL"], [{"type": "x", "text": "SENTINEL"}], [error_event("SENTINEL")]):
            for _ in sidecar.tap(items, prompt="SENTINEL"):
                pass
        assert sidecar.flush() == {}
    assert len(memory.runs()) == 3
    assert "SENTINEL" not in str(memory.events)


# --- anything ------------------------------------------------------------------------------------------------------


def test_items_of_an_unknown_kind_are_custom_events_by_their_type(watching: Watching) -> None:
    class Thing:
        def __repr__(self) -> str:
            return "a thing"

    read(watching, [{"type": "delta", "n": 1}, {"event": "end"}, {"n": 2}, Thing()])
    customs = [event.data for event in watching.events("custom")]
    assert [custom.name for custom in customs] == ["delta", "end", "dict", "Thing"]
    *payloads, thing = [custom.payload for custom in customs]
    assert payloads == [{"type": "delta", "n": 1}, {"event": "end"}, {"n": 2}]
    assert thing.endswith(".Thing>")  # the type's name, because a repr may do anything
    assert watching.events("llm_start") == []
    assert watching.outcome() == "completed"


# --- our own events ------------------------------------------------------------------------------------------------


def test_events_of_another_process_become_a_run_here(watching: Watching) -> None:
    theirs: dict[str, Any] = {"run_id": "theirs"}
    usage = Usage(input_tokens=10, output_tokens=2)
    read(
        watching,
        [
            agent_start_event("remote", run_id="theirs"),
            make_event(LLMStart(request=1, model="m", provider="p", streaming=True), **theirs),
            llm_chunk_event("Let me ", **theirs),
            llm_chunk_event("see", **theirs),
            llm_chunk_event("of a sub-agent", run_id="other"),
            make_event(
                LLMEnd(
                    request=1,
                    outcome="ok",
                    duration_seconds=1,
                    usage=usage,
                    usage_source="provider",
                    cost_usd=0.5,
                    cost_source="override",
                ),
                **theirs,
            ),
            tool_start_event("look", {"at": "it"}, tool_call_id="c1", **theirs),
            tool_end_event("look", "seen", tool_call_id="c1", **theirs),
            tool_end_event("unseen", "result", **theirs),
            agent_end_event("remote", False, 1.0, outcome="timed_out", **theirs),
        ],
        agent_name="here",
    )
    assert watching.text() == "Let me see"
    (start,) = watching.events("llm_start")
    assert (start.data.model, start.data.provider) == ("m", "p")
    (end,) = watching.events("llm_end")
    assert (end.data.usage, end.data.cost_usd, end.data.cost_source) == (usage, 0.5, "override")
    look, unseen = watching.events("tool_end")
    assert (look.data.result, look.data.duration_seconds is not None) == ("seen", True)
    assert (unseen.data.result, unseen.data.duration_seconds) == ("result", None)
    assert watching.outcome() == "timed_out"
    assert {event.run_id for event in watching.events()} == {watching.events("agent_start")[0].run_id} != {"theirs"}


def test_a_stream_that_tells_of_its_failure_has_failed(watching: Watching) -> None:
    """An error item fails the run, even if the stream then ends normally."""
    read(watching, [llm_chunk_event("a"), error_event("boom", "ValueError", where="model")])
    (end,) = watching.ends()
    assert (end.outcome, end.exception_type) == ("error", "ValueError")


# --- one of your own -----------------------------------------------------------------------------------------------


def test_a_function_is_an_adapter(watching: Watching) -> None:
    def mine(item: dict[str, Any], record: StreamRecorder) -> None:
        match item:
            case {"model": model}:
                record.request_start(model)
            case {"thought": thought}:
                record.thinking(thought)
            case {"token": token}:
                record.text(token)
            case {"call": name}:
                record.tool_call(0, "{", tool_name=name)
                record.tool_call(0, "}")
            case {"run": name}:
                record.tool_start(name, args={"a": 1})
            case {"ran": name}:
                record.tool_end(name, "fine")
            case {"used": used}:
                record.usage(Usage(output_tokens=used))

    items = [
        {"model": "m1"},
        {"thought": "hm"},
        {"token": "a"},
        {"token": "b"},
        {"call": "f"},
        {"used": 3},
        {"run": "f"},
        {"ran": "f"},
        {"model": "m2"},
        {"token": "c"},
        {"ignored": 1},
    ]
    read(watching, items, adapter=mine, provider="p")
    told = [
        (event.event_type.value, event.data.get("kind"), event.data.get("text") or event.data.get("model"))
        for event in watching.events("llm_start", "llm_chunk", "tool_start", "tool_end", "llm_end")
    ]
    assert told == [
        ("llm_start", None, "m1"),
        ("llm_chunk", "thinking", "hm"),
        ("llm_chunk", "text", "ab"),
        ("llm_chunk", "tool_call", "{}"),
        ("tool_start", None, None),
        ("tool_end", None, None),
        ("llm_end", None, "m1"),
        ("llm_start", None, "m2"),
        ("llm_chunk", "text", "c"),
        ("llm_end", None, "m2"),
    ]
    (end,) = watching.ends()
    assert (end.outcome, end.total_iterations, end.tool_calls, end.total_tokens) == ("completed", 2, 1, 3)
    assert end.unpriced_requests == 1


def test_a_class_is_an_adapter_made_anew_for_each_stream(watching: Watching) -> None:
    class Numbering:
        def __init__(self) -> None:
            self.count = 0

        def __call__(self, item: str, record: StreamRecorder, /) -> None:
            self.count += 1
            record.text(f"{self.count}{item}")

    read(watching, ["a", "b"], adapter=Numbering)
    read(watching, ["c"], adapter=Numbering)
    assert watching.text() == "1a2b1c"


def test_an_adapter_that_raises_is_counted_and_nothing_else() -> None:
    def bad(item: str, record: StreamRecorder) -> None:
        if item == "b":
            raise ValueError("SENTINEL")
        record.text(item)

    watching = Watching()
    with watching.sidecar as sidecar:
        assert list(sidecar.tap(["a", "b", "c"], adapter=bad)) == ["a", "b", "c"]
        assert (watching.outcome(), watching.text()) == ("completed", "ac")
        assert sidecar.stats().recording_errors == 1


def test_an_adapter_that_tells_nonsense_spoils_nothing_but_that(watching: Watching) -> None:
    def nonsense(item: Any, record: StreamRecorder) -> None:
        record.text(item)
        record.text(5)  # type: ignore[arg-type]

    assert list(watching.sidecar.tap(["a", "b"], adapter=nonsense)) == ["a", "b"]
    assert (watching.outcome(), watching.text()) == ("completed", "ab")
    assert watching.sidecar.stats().recording_errors == 2
    watching.sidecar._recording_errors = 0  # expected by the fixture


# --- by name -------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Distribution with adapters, in pip's layout."""
    (tmp_path / "their_adapters.py").write_text(
        "def shout(item, record):\n    record.text(item.upper())\n"
        "class Theirs:\n"
        "    @staticmethod\n    def recognizes(item):\n        return 'theirs' in item\n"
        "    def __call__(self, item, record):\n        record.text(item['theirs'])\n"
    )
    info = tmp_path / "their_adapters-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-adapters\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[sidestream.adapters]\nshout = their_adapters:shout\n"
        "theirs = their_adapters:Theirs\nbroken = no_such_module:adapter\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._installed.cache_clear()
    yield
    registry._installed.cache_clear()


@pytest.mark.usefixtures("installed")
def test_an_installed_adapter_is_found_by_its_name(watching: Watching) -> None:
    read(watching, ["a", "b"], adapter="shout")
    assert watching.text() == "AB"


@pytest.mark.usefixtures("installed")
def test_an_installed_adapter_is_chosen_by_the_items_that_it_recognizes(
    watching: Watching,
) -> None:
    read(watching, [{"theirs": "a"}, {"theirs": "b"}])
    assert (watching.text(), watching.outcome()) == ("ab", "completed")


@pytest.mark.usefixtures("installed")
def test_one_that_does_not_import_is_said_clearly(watching: Watching) -> None:
    with pytest.raises(ConfigurationError, match=r"'broken': it is installed but does not import: .*no_such_module"):
        watching.sidecar.tap([], adapter="broken")


@pytest.mark.usefixtures("installed")
def test_an_unknown_name_lists_what_there_is(watching: Watching) -> None:
    with pytest.raises(
        ConfigurationError, match=r"unknown adapter; available are: ag-ui, anthropic, broken, .*events, .*, shout, "
    ):
        watching.sidecar.tap([], adapter="openai")


def test_what_cannot_be_called_is_no_adapter(watching: Watching) -> None:
    with pytest.raises(ConfigurationError, match=r"adapter=5: give a name, or a function \(item, record\)"):
        watching.sidecar.tap([], adapter=5)  # type: ignore[call-overload]


def test_the_test_kit_refuses_what_a_tap_refuses() -> None:
    with pytest.raises(ConfigurationError, match="unknown adapter"):
        events_of([1], "another")


def test_the_test_kit_fails_where_an_adapter_raises() -> None:
    def raises(item: Any, record: StreamRecorder) -> None:
        raise KeyError("token")

    with pytest.raises(AssertionError, match="the adapter raised"):
        events_of([1], raises)
