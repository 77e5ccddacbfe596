"""Arbitrary settings: the result is an exporter or a `ConfigurationError`; programs that must run leave faulty ones
out."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidestream.errors import ConfigurationError
from sidestream.pipeline.registry import available_exporters, make_exporter, split_specs
from sidestream.settings import exporters_that_work

names = st.sampled_from([*available_exporters(), "", "no-such", "JSONL"])
targets = st.sampled_from(["", ":", ":9464", "localhost:0", "http://[", "clickhouse://h/a b", "x.jsonl"])
options = st.sampled_from(["content", "port", "chunks", "fsync", "rotate_bytes", "protocol", "timeout", "path"])
values = st.sampled_from(["0", "-1", "1e999", "nan", "none", "truncated(0)", "truncated(9", "interval:-1", "\0", "%zz"])


def spec_of(name: str, target: str, asked: list[tuple[str, str]]) -> str:
    return f"{name}:{target}" + "".join(f"{'&' if number else '?'}{k}={v}" for number, (k, v) in enumerate(asked))


asked = st.lists(st.tuples(options | st.text(max_size=4), values | st.text(max_size=8)), max_size=3)
specs = st.builds(spec_of, names, targets | st.text(max_size=8), asked) | st.text(max_size=20)

IN_ONE_FOLDER = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@IN_ONE_FOLDER
@given(spec=specs)
def test_a_spec_makes_an_exporter_or_says_what_is_wrong(spec: str) -> None:
    with contextlib.suppress(ConfigurationError):
        make_exporter(spec).close()


@IN_ONE_FOLDER
@given(text=st.lists(specs, max_size=3).map(",".join))
def test_what_cannot_work_is_left_out(text: str) -> None:
    for exporter in exporters_that_work(split_specs(text)):
        exporter.close()
