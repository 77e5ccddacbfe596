"""Exporter specs: accepted forms, and error messages."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sidestream import ConfigurationError, InMemoryExporter, Sidecar, UnknownExporterError, available_exporters
from sidestream.pipeline.registry import make_exporter

THIRD_PARTY = """
    from __future__ import annotations
    from pathlib import Path
    from typing import TYPE_CHECKING, Literal
    from sidestream import Exporter
    if TYPE_CHECKING:
        from collections.abc import Sequence
        from sidestream import StreamEvent

    class Lines(Exporter):
        name = "lines"
        def __init__(self, target: str, *, count: int = 1, ratio: float = 0.5, loud: bool = False,
                     mode: Literal["a", "b"] = "a", note: str | None = None, limit: int | None = None):
            self.options = (target, count, ratio, loud, mode, note, limit)
        def export(self, events: Sequence[StreamEvent]) -> None:
            with open(self.options[0], "a") as file:
                file.writelines(f"{event.event_type}\\n" for event in events)

    class Bare(Exporter):
        name = "bare"
        def export(self, events):
            pass

    class Hinted(Exporter):
        name = "hinted"
        def __init__(self, source: Sequence[str] = (), count: int = 1):
            self.count = count
        def export(self, events):
            pass

    class Variadic(Exporter):
        name = "variadic"
        def __init__(self, target: str = "x", *more: str, **others: str):
            self.target = target
        def export(self, events):
            pass

    class Sender(Exporter):
        name = "sender"
        def __init__(self, *, headers: int = 0):
            self.headers = headers
        def export(self, events):
            pass

    class NoExporter:
        pass
"""

ENTRY_POINTS = """
    [sidestream.exporters]
    lines = third_party:Lines
    bare = third_party:Bare
    hinted = third_party:Hinted
    variadic = third_party:Variadic
    sender = third_party:Sender
    no_exporter = third_party:NoExporter
    no_module = not_there:Lines
    no_class = third_party:NotThere
"""


def in_a_process_with_third_party(folder: Path, program: str) -> None:
    """Run `program` with an installed distribution that provides exporters."""
    (folder / "third_party.py").write_text(textwrap.dedent(THIRD_PARTY))
    info = folder / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(ENTRY_POINTS))
    preamble = f"""
        import sys
        sys.path.insert(0, {str(folder)!r})
        from sidestream import ConfigurationError, Sidecar, UnknownExporterError, available_exporters
        from sidestream.pipeline.registry import make_exporter
        def mistake(spec):
            try:
                made = make_exporter(spec)
            except ConfigurationError as error:
                return str(error)
            raise AssertionError(f"{{spec}} made {{made}}")
    """
    source = textwrap.dedent(preamble) + textwrap.dedent(program)
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=folder, timeout=60)
    assert ended.returncode == 0, ended.stderr


def mistake(spec: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make_exporter(spec)
    return str(caught.value)


class TestThisDistribution:
    def test_its_exporters_are_found_by_name(self) -> None:
        assert {"console", "jsonl", "memory"} <= set(available_exporters())
        assert isinstance(make_exporter("memory"), InMemoryExporter)

    def test_an_unknown_name_is_told_what_there_is(self) -> None:
        with pytest.raises(UnknownExporterError, match=r"'jsnol'.*console.*jsonl.*memory"):
            make_exporter("jsnol:runs/")

    def test_a_name_that_is_nearly_one_is_told_which(self) -> None:
        with pytest.raises(UnknownExporterError, match=r"no exporter 'consol'; did you mean 'console'\? installed are"):
            make_exporter("consol")

    @pytest.mark.parametrize("spec", ["", " ", ":", "?", ":target", "memory?content=full"])
    def test_a_specification_without_a_known_name_is_told_so(self, spec: str) -> None:
        with pytest.raises(UnknownExporterError, match="installed are"):
            make_exporter(spec)

    def test_an_unknown_option_is_told_the_options(self) -> None:
        assert "unknown option 'contents'; options are: content" in mistake("memory:?contents=full")
        assert "rotate_bytes" in mistake("jsonl:runs/?rotate=5")

    def test_a_value_of_another_type_is_told_the_type(self, tmp_path: Path) -> None:
        assert "rotate_bytes='many'" in mistake(f"jsonl:{tmp_path}/?rotate_bytes=many")

    def test_a_value_that_cannot_work_is_told_what_would(self) -> None:
        assert "choose none, metadata, truncated(N) or full" in mistake("memory:?content=some")

    @pytest.mark.parametrize(
        "spec",
        [
            "bogus:http://u:s3cret@host/?headers=authorization=s3cret",
            "bogus?headers=authorization=s3cret",
            "x-key=s3cret",  # the rest of two headers split at a comma
            "memory:?headers=authorization=s3cret",
            "memory:http://u:s3cret@host/",
            "prometheus:http://u:s3c@ret:s3cret@host/",
            "prometheus:?push=http://u:s3cret@host",
            "otlp:http://u:s3cret@host/?timeout=never",
            "otlp:http://u:s3cret@host:port",
            "otlp:http://us?er:s3cret@host",
            "otlp:http:/user:s3cret@host",
            "otlp:http://host?s3cret",
            "bogus:http://host/s3cret/v1/traces",
            "bogus:host:4318/s3cret",
            "prometheus:http://host/s3cret",
            "prometheus:?push=http://127.0.0.1:9/a b/s3cret",
            "otlp:http://host?headers=s3cret",
            "otlp:http://host?headers=authorization=s3cret&compression=some",
        ],
    )
    def test_a_mistake_is_told_without_what_may_be_a_secret(self, spec: str) -> None:
        message = mistake(spec)
        assert "s3cret" not in message
        assert "ret:" not in message

    def test_a_mistake_is_told_with_the_target_that_it_is_of(self) -> None:
        assert mistake("jsonl:runs/?rotate=5").startswith("exporter 'jsonl:runs/': unknown option 'rotate'")
        assert mistake("bogus:http://u:p@host/x").startswith("exporter 'bogus:http://host/…': there is no")

    def test_an_exporter_that_takes_no_target_says_so(self) -> None:
        assert "takes no target" in mistake("memory:target")

    def test_options_reach_the_exporter_converted(self) -> None:
        assert str(make_exporter("memory:?content=truncated(20)").content) == "truncated(20)"
        assert str(make_exporter("memory:?content=truncated%2820%29").content) == "truncated(20)"


class TestThirdParties:
    def test_an_exporter_of_another_distribution_is_found_configured_and_used(self, tmp_path: Path) -> None:
        in_a_process_with_third_party(
            tmp_path,
            """
            assert "lines" in available_exporters()
            made = make_exporter("lines:out.txt?count=3&ratio=1.5&loud=true&mode=b&note=7&limit=9")
            assert made.options == ("out.txt", 3, 1.5, True, "b", "7", 9), made.options
            assert make_exporter("lines:a:b?c?loud=1").options[:1] == ("a:b?c",)
            with Sidecar("lines:out.txt") as sidecar:
                run = sidecar.open_run("r", "agent", None)
                run.start()
                run.end("completed")
            assert open("out.txt").read().split() == ["agent_start", "agent_end"]
            """,
        )

    def test_mistakes_in_its_options_are_told_by_its_own_names(self, tmp_path: Path) -> None:
        in_a_process_with_third_party(
            tmp_path,
            """
            assert "missing target, write lines:VALUE" in mistake("lines")
            assert "count='x'" in mistake("lines:t?count=x") and "int" in mistake("lines:t?count=x")
            assert "loud='maybe'" in mistake("lines:t?loud=maybe")
            assert "choose a, b" in mistake("lines:t?mode=c")
            assert "options are: target, count, ratio, loud, mode, note, limit" in mistake("lines:t?cuont=1")
            assert "options are: none" in mistake("bare:?x=1")
            assert mistake("sender:?headers=s3cret").startswith("exporter 'sender:': option headers: it must be")
            """,
        )

    @pytest.mark.parametrize(
        ("name", "told"),
        [("no_module", "does not import"), ("no_class", "does not import"), ("no_exporter", "is not an exporter")],
    )
    def test_an_entry_point_that_leads_nowhere_is_told_by_name(self, tmp_path: Path, name: str, told: str) -> None:
        in_a_process_with_third_party(
            tmp_path,
            f"""
            try:
                Sidecar("{name}")
            except ConfigurationError as error:
                assert "{told}" in str(error) and "{name}" in str(error), error
            else:
                raise AssertionError("no error")
            """,
        )

    def test_types_that_cannot_be_looked_up_do_not_keep_an_exporter_from_being_made(self, tmp_path: Path) -> None:
        in_a_process_with_third_party(tmp_path, 'assert make_exporter("hinted").count == 1')

    def test_open_parameters_are_no_options(self, tmp_path: Path) -> None:
        in_a_process_with_third_party(
            tmp_path,
            """
            assert make_exporter("bare").name == "bare"
            assert make_exporter("variadic").target == "x"
            assert make_exporter("variadic:y").target == "y"
            """,
        )


class TestSidecar:
    def test_exporters_come_from_the_environment_unless_given(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("SIDESTREAM_EXPORTERS", f" memory , jsonl:{tmp_path}/ ,memory:?content=none,")
        assert list(Sidecar().stats().exporters) == ["memory", "jsonl", "memory-2"]
        assert list(Sidecar("memory").stats().exporters) == ["memory"]

    def test_semicolons_part_what_holds_commas(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("SIDESTREAM_EXPORTERS", f"jsonl:{tmp_path}/a,b/;memory")
        assert list(Sidecar().stats().exporters) == ["jsonl", "memory"]

    def test_an_empty_environment_means_the_default(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SIDESTREAM_EXPORTERS", " ")
        assert list(Sidecar().stats().exporters) == ["console", "jsonl"]
        assert list(tmp_path.iterdir()) == [], "nothing is touched before the first event"

    def test_a_mistake_in_the_environment_is_told_at_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SIDESTREAM_EXPORTERS", "memory,promethius:9464")
        with pytest.raises(UnknownExporterError, match="promethius"):
            Sidecar()

    @pytest.mark.parametrize("item", [InMemoryExporter, 7, None, object(), b"memory"])
    def test_what_is_no_exporter_is_told_what_one_is(self, item: object) -> None:
        with pytest.raises(ConfigurationError, match="is not an exporter"):
            Sidecar(item)  # type: ignore[arg-type]

    def test_an_object_that_lacks_part_of_an_exporter_is_told_which(self) -> None:
        class OnlyExports:
            def export(self, events: object) -> None:
                return

        with pytest.raises(ConfigurationError, match=r"missing here:.*name.*start"):
            Sidecar(OnlyExports())  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "setting",
        [{"buffer_events": 0}, {"buffer_bytes": -1}, {"close_timeout": -1}, {"stall_seconds": float("nan")}],
    )
    def test_a_setting_that_cannot_work_is_told_by_name(self, setting: dict[str, float]) -> None:
        with pytest.raises(ConfigurationError, match=next(iter(setting))):
            Sidecar("memory", **setting)  # type: ignore[arg-type]
