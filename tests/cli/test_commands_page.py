"""docs/commands.md names every JSON key and every column of the exports."""

from __future__ import annotations

import re

import msgspec
import pytest

from sidestream import log
from sidestream.cli.commands.checking import Fault
from sidestream.cli.tables import EVENT_COLUMNS, RUN_COLUMNS
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/commands.md").read_text("utf-8")
WORDS = set(re.findall(r"`(\w+)`", PAGE))


@pytest.mark.parametrize(
    "kind",
    [
        log.RunSummary,
        log.RunLog,
        log.Step,
        log.Sent,
        log.ErrorGroup,
        log.Part,
        log.Delta,
        log.Located,
        log.Statistics,
        log.Group,
        log.Quantiles,
        log.ScoreFacts,
        log.ScoreSums,
        log.Hit,
        log.Conversation,
        log.Change,
        log.StepDiff,
        Fault,
    ],
)
def test_every_key_of_the_json_is_on_the_page(kind: type[msgspec.Struct]) -> None:
    assert set(kind.__struct_fields__) <= WORDS


def test_every_column_is_on_the_page() -> None:
    assert {*RUN_COLUMNS, *EVENT_COLUMNS} - {"provider"} <= WORDS
