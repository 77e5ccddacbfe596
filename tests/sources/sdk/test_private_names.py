"""Private names of SDKs: present in the installed versions; `doctor` reports missing ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidestream.sources.sdk import compat


def test_all_of_them_are_there() -> None:
    probes = compat.probes()
    assert [probe for probe in probes if not probe.holds] == []
    libraries = {probe.name.partition(":")[0] for probe in probes}
    assert {"openai", "anthropic", "groq", "google-genai", "mistralai", "openai-agents", "litellm"} <= libraries


def test_one_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a version with another name, and without importing the SDK."""
    package = tmp_path / "openai"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit\n")
    (package / "_base_client.py").write_text("class SyncAPIClient:\n    def send(self): ...\n")
    monkeypatch.setattr(compat, "find_spec", lambda name: _Found([str(tmp_path / name)]) if name == "openai" else None)
    lost = {probe.name for probe in compat.probes() if not probe.holds}
    assert lost == {"openai: SyncAPIClient.request", "openai: Stream._iterator"}


class _Found:
    def __init__(self, places: list[str]) -> None:
        self.submodule_search_locations = places
