"""Stand-in for Loki and Tempo: answers the queries of the boards from a log and its spans.

Neither server is to be had where the tests run. The stand-in knows as much of LogQL and TraceQL as the boards use, and
refuses the rest: a query that it answers names labels, fields and attributes that there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from sidestream.events import StreamEvent
from sidestream.recording.content import FULL
from sidestream_exporters.otlp.runs import Span
from sidestream_exporters.otlp.semantic_conventions import SemanticConventions
from sidestream_exporters.otlp.spans import Builder
from tests.support.board_files import FOLDER, Json

MATCHER = r"([\w.]+)\s*(=~|=)\s*(?:\"([^\"]*)\"|`([^`]*)`)"


def labels_of_logs() -> tuple[dict[str, str], set[str], set[str]]:
    """Values that `stack/logs.alloy` reads from a line (name to path), and the names of labels and metadata."""
    text = (FOLDER / "stack/logs.alloy").read_text("utf-8")
    expressions = re.search(r"expressions = \{(.*?)\}", text, re.DOTALL)
    assert expressions
    paths = dict(re.findall(r'(\w+)\s*= "([\w.]+)"', expressions[1]))
    named = {
        stage: set(re.findall(r"(\w+) = \"\"", inside))
        for stage, inside in re.findall(r"stage\.(labels|structured_metadata) \{\s*values = \{([^}]*)\}", text)
    }
    return paths, named["labels"], named["structured_metadata"]


def at(line: Json, path: str) -> Any:
    """The value at `path` (`data.usage.input_tokens`) of a line; None where there is none."""
    found: Any = line
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def lines_found(query: str, lines: Iterable[Json]) -> list[Json]:
    """Lines that a LogQL query of the boards finds: matchers of labels, filters on metadata, fields by `json`."""
    paths, labels, metadata = labels_of_logs()
    whole = re.fullmatch(r"\{([^}]*)\}((?: \| .+?)*)", query)
    assert whole, query
    conditions = []
    for name, operator, value in _matchers(whole[1]):
        assert name in labels or name == "job", f"{name} is no label of the log: {query}"
        if name != "job":
            conditions.append((paths[name], operator, value))
    extracted: dict[str, str] = {}
    for stage in filter(None, re.split(r"(?:^| )\| ", whole[2])):
        if stage.startswith("json "):
            extracted |= {name: value for name, _, value in _matchers(stage.removeprefix("json "))}
            continue
        [(name, operator, value)] = _matchers(stage)
        assert name in metadata or name in extracted, f"{name} is no metadata of the log: {query}"
        conditions.append((extracted.get(name) or paths[name], operator, value))
    return [line for line in lines if all(_meets(at(line, path), *rest) for path, *rest in conditions)]


def spans_found(query: str, spans: Iterable[Span]) -> tuple[list[str], list[Span]]:
    """The attributes that a TraceQL query of the boards selects, and the spans that it finds."""
    whole = re.fullmatch(r"\{ (.+?) \} \| select\((.+)\)", query)
    assert whole, query
    conditions = [(name.removeprefix("span."), *rest) for name, *rest in _matchers(whole[1], " && ")]
    selected = [name.removeprefix("span.") for name in whole[2].split(", ")]
    found = [span for span in spans if all(_meets(span.attributes.get(name), *rest) for name, *rest in conditions)]
    return selected, found


def spans_of(events: Iterable[StreamEvent]) -> list[Span]:
    """Spans that the OTLP exporter makes of `events`."""
    builder = Builder(
        SemanticConventions(),
        lambda trace_id, parent: True,
        instrumented="all",
        content=FULL,
        placement="span",
    )
    return [span for _, span in map(builder.take, events) if span is not None]


def _matchers(text: str, between: str = ", ") -> Iterator[tuple[str, str, str]]:
    for part in text.split(between):
        match = re.fullmatch(MATCHER, part.strip())
        assert match, part
        yield match[1], match[2], match[3] if match[3] is not None else match[4]


def _meets(value: Any, operator: str, wanted: str) -> bool:
    text = "" if value is None else str(value)
    return bool(re.fullmatch(wanted, text)) if operator == "=~" else text == wanted
