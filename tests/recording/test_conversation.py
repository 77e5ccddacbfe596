"""The conversation of a run: in the log if the application knows it, absent if pydantic-ai made an id up."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from pydantic_ai import Agent

from sidestream import InMemoryExporter, Sidecar
from tests.support.provider_model import Says

AGENT = Agent(Says([["fine"]]), name="a")


def conversation_of(**options: Any) -> tuple[str | None, Any]:
    """What the log says, and the result of the run."""
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        sidecar.observe(AGENT)
        result = AGENT.run_sync("go", **options)
    return memory.of("agent_start")[0].data.get("conversation_id"), result


def test_an_id_that_was_made_up_for_the_run_is_not_recorded() -> None:
    told, result = conversation_of()
    assert result.conversation_id
    assert told is None


NIL = "00000000-0000-0000-0000-000000000000"
UUID4 = "a326b454-f8a9-4164-83af-0d2c6793baff"


@pytest.mark.parametrize("known", ["support-4711", "c", NIL, UUID4])
def test_an_id_that_the_application_gave_is_recorded(known: str) -> None:
    assert conversation_of(conversation_id=known)[0] == known


def test_an_id_that_came_with_the_history_is_recorded() -> None:
    """Also one that was made up when the conversation began: both runs belong to it."""
    _, first = conversation_of()
    told, second = conversation_of(message_history=first.all_messages())
    assert told == first.conversation_id == second.conversation_id


def test_an_old_generated_id_given_explicitly_is_recorded() -> None:
    """The application took it from its own store."""
    old = "01890a5d-ac96-774b-bcce-b302099a8057"
    assert uuid.UUID(old).version == 7
    assert conversation_of(conversation_id=old)[0] == old


def test_a_fresh_conversation_on_an_old_history_has_no_known_id() -> None:
    _, first = conversation_of()
    assert conversation_of(message_history=first.all_messages(), conversation_id="new")[0] is None
