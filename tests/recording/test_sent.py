"""Sent messages: recorded once, and complete for each request, whatever programs do with their histories."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidestream.events import LLMStart, StreamEvent
from sidestream.log.runs.sent_messages import Conversations
from sidestream.recording.assembler import RunAssembler
from sidestream.recording.direct import DirectAssembly
from sidestream.recording.run_recorder import RunRecorder
from sidestream.recording.sent import Histories, Mark, NewMessage, Sent
from tests.support.log_builder import QUICK
from tests.support.log_runs import loaded


@dataclass
class Path:
    """Caller's path: numbers each message, and passes it on once."""

    assembly: DirectAssembly
    marks: dict[str, Mark] = field(default_factory=dict)
    forgets: bool = False
    """Whether each run passes messages as new objects, like those from a database."""
    next: int = 0

    def new(self, text: str) -> NewMessage:
        self.next += 1
        self.marks[text] = Mark(self.next)
        kind = "response" if text.startswith("answer") else "request"
        return NewMessage(self.marks[text], kind, ((("part_kind", "content"), ("text", text)),))

    def item(self, text: str) -> Mark | NewMessage:
        return self.marks.get(text) or self.new(text)


def run(path: Path, run_id: str, requests: list[list[str]]) -> None:
    """Run whose requests send these messages, each answered by a distinct text."""
    if path.forgets:
        path.marks.clear()
    recorder = RunRecorder(path.assembly.append, run_id=run_id)
    recorder.start()
    before: list[str] = []
    for number, messages in enumerate(requests, 1):
        same = 0
        while same < min(len(before), len(messages)) and before[same] == messages[same]:
            same += 1
        request = recorder.open_request(model="m", streaming=False)
        request.send(sent=Sent(same=same, rest=tuple(path.item(text) for text in messages[same:])))
        answer = answer_to(run_id, number)
        request.whole(0, "text", answer, request.at)
        request.end("ok", answer=path.new(answer))
        before = [*messages, answer]
    recorder.end("completed")


def answer_to(run_id: str, request: int) -> str:
    return f"answer {run_id}.{request}"


def texts(messages: list[dict[str, Any]] | None) -> list[str]:
    return [part["content"] for message in messages or [] for part in message["parts"]]


def recorded(runs: list[list[list[str]]], *, forgets: bool = False) -> list[StreamEvent]:
    events: list[StreamEvent] = []
    path = Path(DirectAssembly(RunAssembler(), events.append), forgets=forgets)
    for number, requests in enumerate(runs):
        run(path, f"r{number}", requests)
    return events


WORDS = st.lists(st.sampled_from(["a", "b", "c", "answer r0.1", "answer r0.2", "answer r1.1"]), max_size=5)


@QUICK
@given(st.lists(st.lists(WORDS, min_size=1, max_size=3), min_size=1, max_size=4), st.booleans())
def test_whatever_is_sent_is_given_back(runs: list[list[list[str]]], forgets: bool) -> None:
    """Messages that return reordered, partially, or from another run."""
    logs = loaded(recorded(runs, forgets=forgets))
    for number, requests in enumerate(runs):
        conversations = Conversations(logs[f"r{number}"], logs.get)
        for request, messages in enumerate(requests, 1):
            assert texts(conversations.messages(f"r{number}", request)) == messages


def starts(events: list[StreamEvent]) -> list[LLMStart]:
    return [event.data for event in events if isinstance(event.data, LLMStart)]


def conversation(turns: int) -> list[list[list[str]]]:
    """Runs of one request, each with the whole previous conversation."""
    history: list[str] = []
    runs = []
    for turn in range(turns):
        history = [*history, f"question {turn} {'.' * 500}"]
        runs.append([history])
        history = [*history, answer_to(f"r{turn}", 1)]
    return runs


def test_a_history_is_named_by_the_run_that_has_it_and_not_written_again() -> None:
    for forgets in (False, True):
        third = starts(recorded(conversation(3), forgets=forgets))[2]
        assert [(each.run_id, each.request, each.start, each.count, each.at) for each in third.history or []] == [
            ("r1", 1, None, 4, None)
        ]
        assert texts(third.sent) == [f"question 2 {'.' * 500}"]
        assert third.messages == 5


def test_a_window_that_slides_over_a_conversation_is_named_too() -> None:
    runs = conversation(4)
    runs[3][0] = runs[3][0][-3:]
    last = starts(recorded(runs))[3]
    assert [(each.run_id, each.start, each.count) for each in last.history or []] == [("r2", 4, 2)]
    assert len(last.sent) == 1


def test_a_processor_that_rewrites_is_told_with_the_new_history() -> None:
    events = recorded([[["a", "b"], ["a", "b", "answer r0.1", "c"], ["summary", "answer r0.1", "c"]]])
    first, second, third = starts(events)
    assert (first.rewritten, second.rewritten, third.rewritten) == (None, None, True)
    assert [(each.request, each.start, each.count, each.at) for each in third.history or []] == [(2, 2, 2, 1)]
    assert texts(third.sent) == ["summary"]


def test_the_same_words_in_another_conversation_are_written_where_they_are_the_question() -> None:
    first, second = starts(recorded([[["hello"]], [["hello"]]], forgets=True))
    assert texts(first.sent) == texts(second.sent) == ["hello"]


def test_a_message_that_is_forgotten_says_so() -> None:
    events: list[StreamEvent] = []
    assembly = DirectAssembly(RunAssembler(), events.append)
    recorder = RunRecorder(assembly.append, run_id="r")
    recorder.start()
    recorder.open_request(model="m", streaming=False).send(sent=Sent(same=0, rest=(Mark(17),)))
    assert starts(events)[0].sent == [{"kind": "unknown"}]


def test_of_too_many_messages_the_oldest_tenth_is_forgotten() -> None:
    histories = Histories(max_messages=20)
    for number in range(21):
        message = NewMessage(Mark(number), "request", ())
        assert histories.number(message, f"text {number}") == number
    again = [NewMessage(Mark(100 + number), "request", ()) for number in range(21)]
    assert [histories.number(again[number], f"text {number}") for number in (3, 20)] == [3, 20]
    assert histories.number(again[2], "text 2") == 102
