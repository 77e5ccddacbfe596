"""The settings for each back end are taken by the exporter as they stand on the page."""

from __future__ import annotations

import re

import pytest

from sidestream.pipeline.registry import make_exporter
from sidestream_exporters.otlp.exporter import OTLPExporter
from tests.support.paths import ROOT

BLOCKS = re.findall(r"^```text\n(.*?)^```$", (ROOT / "docs/backends.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
SETTINGS = [block for block in BLOCKS if "OTEL_EXPORTER" in block]


@pytest.mark.parametrize("block", SETTINGS, ids=lambda block: block.splitlines()[0].partition("=")[2])
def test_the_exporter_takes_them(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in block.replace("<of your site>", "https://example.test/v1/traces").splitlines():
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, re.sub("<.*>", "key", value))
    assert isinstance(make_exporter("otlp"), OTLPExporter)
