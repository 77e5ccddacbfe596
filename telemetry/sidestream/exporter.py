"""The contract of an exporter, the look-up by name, and the exporter that keeps events in memory.

Everything a third party needs to write one: subclass `Exporter`, implement `export`, and name the class under the
entry-point group `sidestream.exporters`.
"""

from __future__ import annotations

import inspect
import re
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, Protocol, cast, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec

from .content import FULL, ContentPolicy
from .errors import ConfigurationError, UnknownExporterError
from .events import StreamEvent
from .stats import SidecarStats

ENTRY_POINT_GROUP = "sidestream.exporters"


class Exporter(Protocol):
    """Takes events to one sink.

    **Threads.** Each exporter has one worker thread of its own, and every method but `__init__` and `bind` is called
    from it, one call at a time. Nothing here is ever called on the thread of an agent. (`after_fork` is called on the
    only thread of the child.)

    **Blocking.** A method may block: only this exporter's buffer fills meanwhile. What does not fit is dropped and
    counted, `llm_chunk` events first. On close the hub waits until its deadline and no longer; beside a `durable`
    exporter that has written everything, it waits for one call no longer than a second (a fifth of a second where the
    last call failed). A call that has not come back by then is left behind, and its events are counted as dropped. To
    be a good neighbour, hold the GIL for no more than about 100 µs at a time.

    **Errors.** Raise `ExporterUnavailable` when the sink is away and nothing of the batch was delivered: the batch is
    kept and offered again, with growing delays. Any other exception loses the batch, which is counted as dropped for
    the reason `error`; after several in a row the hub pauses the exporter. Nothing raised ever reaches an agent.
    """

    name: ClassVar[str]
    """How settings, statistics and metrics call it."""

    content: ContentPolicy = FULL
    """How much of what people and models wrote it may see; events are stripped before they get here."""

    skip: frozenset[str] = frozenset()
    """Event types it has no use for. They are not offered, and so not counted."""

    interval: float = 0.1
    """Seconds to gather events before a batch is handed over."""

    durable: bool = False
    """Whether what it took is there for a later replay. A program that ends does not wait for another exporter's outage
    to end, once every durable exporter has written all it was given."""

    eager: bool = False
    """Whether it starts with the sidecar and not with the first event: for those that are asked, like an endpoint."""

    spans: bool = False
    """Whether it exports spans. Then the ids of runs and tools are put into the OpenTelemetry context, so that spans
    made inside them by others find their parents; otherwise those would hang from a span that nobody ever sends."""

    def bind(self, books: Callable[[], SidecarStats]) -> None:
        """Called when a sidecar takes the exporter, on the thread that makes the sidecar, before any other call.

        `books` tells the sidecar's statistics, from any thread: for exporters that publish them.
        """
        return

    def start(self) -> None:
        """Called once, before the first `export`. May raise `ExporterUnavailable`, and is then called again."""
        return

    @abstractmethod
    def export(self, events: Sequence[StreamEvent]) -> Mapping[str, int] | None:
        """Deliver `events`, in order: all of them, or return how many were not, by reason (`{"rejected": 2}`)."""

    def flush(self) -> None:
        """Push out whatever `export` left in buffers of its own."""
        return

    def close(self) -> None:
        """Release everything. No call follows."""
        return

    def after_fork(self) -> None:
        """Called in a forked child before anything else: let go of what belongs to the parent, without a flush."""
        return


class InMemoryExporter(Exporter):
    """Keeps events in a list: for tests, notebooks, and programs that look at their own runs.

    `Sidecar.flush()` first, then read. Events may be read from any thread.
    """

    name = "memory"
    interval = 0.02

    def __init__(self, *, content: str | ContentPolicy = "full") -> None:
        self.content = ContentPolicy.parse(content)
        self._events: list[StreamEvent] = []
        self._lock = threading.Lock()

    def export(self, events: Sequence[StreamEvent]) -> None:
        with self._lock:
            self._events.extend(events)

    @property
    def events(self) -> list[StreamEvent]:
        """All events so far, in the order in which they came."""
        with self._lock:
            return list(self._events)

    def of(self, *event_types: str) -> list[StreamEvent]:
        """The events of the given types (`"llm_end"`, `StreamEventType.TOOL_START`)."""
        return [event for event in self.events if event.event_type in event_types]

    def runs(self) -> dict[str, list[StreamEvent]]:
        """The events by run id, runs in the order of their first event."""
        runs: dict[str, list[StreamEvent]] = {}
        for event in self.events:
            runs.setdefault(event.run_id, []).append(event)
        return runs

    def clear(self) -> None:
        """Forget everything kept so far."""
        with self._lock:
            self._events.clear()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._events = []

    def __iter__(self) -> Iterator[StreamEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        with self._lock:
            return len(self._events)


_MEMBERS = (
    *("name", "content", "skip", "interval", "durable", "eager", "spans"),
    *("bind", "start", "export", "flush", "close", "after_fork"),
)


def check_exporter(item: object, origin: str) -> Exporter:
    """`item`, if it is an exporter; else a `ConfigurationError` that says so of `origin`."""
    missing = [name for name in _MEMBERS if not hasattr(item, name)]
    if isinstance(item, type) or missing or not isinstance(getattr(item, "name", None), str):
        raise ConfigurationError(
            f"{origin} is not an exporter: give a name such as 'jsonl:runs/', or an instance of a subclass of "
            f"sidestream.Exporter" + (f" (missing here: {', '.join(missing)})" if missing else "")
        )
    return cast(Exporter, item)


# --- look-up by name -----------------------------------------------------------------------------------------------


def available_exporters() -> list[str]:
    """Names of the exporters that are installed, sorted."""
    return sorted({entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)})


def make_exporter(spec: str) -> Exporter:
    """The exporter described by `spec`: `name`, `name:target`, `name:target?option=value&…`, `name:?option=value`.

    One that is not installed under a name is `module:Class`, or `module:Class?option=value`.

    The target is the class's first parameter, options are its keyword parameters, converted to their annotated types:
    `"console"`, `"jsonl:runs/"`, `"jsonl:runs/?chunks=all&content=metadata"`, `"console:?verbose=true"`.

    Raises:
        UnknownExporterError: no exporter of that name is installed.
        ConfigurationError: an option that does not exist, or a value that cannot work.
    """
    told = shown(spec)
    name, _, rest = spec.strip().partition(":")
    target, question, query = rest.rpartition("?") if "?" in rest else (rest, "", "")
    entry = next((e for e in entry_points(group=ENTRY_POINT_GROUP) if e.name == name), None)
    if entry is None and not (target.isidentifier() and _is_module(name)):
        there = ", ".join(available_exporters())
        raise UnknownExporterError(f"exporter {told!r}: there is no exporter {shown(name)!r}; installed are: {there}")
    try:
        cls: type[Exporter] = entry.load() if entry is not None else getattr(import_module(name), target)
        target = target if entry is not None else ""
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"exporter {told!r}: {name!r} does not import: {error}") from error
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = [p for p in inspect.signature(cls).parameters.values() if p.kind not in variable]
    options = dict(parse_qsl(query, keep_blank_values=True)) if question else {}
    if target:
        if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
            raise ConfigurationError(f"exporter {told!r}: {name!r} takes no target, write {name}:?option=value")
        options = {parameters[0].name: target, **options}
    return check_exporter(cls(**_convert(told, cls, parameters, options)), f"exporter {told!r}")


def shown(spec: str) -> str:
    """`spec` as it may be told: its options may hold a key, and a URL a password."""
    before_options = cast(re.Match[str], re.match(r"[^:?=]*(:[^?]*)?", spec.strip()))
    return without_user(before_options[0])


def without_user(url: str) -> str:
    """`url` without the user and password that may stand in it."""
    return re.sub("(?s)//.*@", "//", url)


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _convert(
    told: str, cls: type[Exporter], parameters: Sequence[inspect.Parameter], options: Mapping[str, str]
) -> dict[str, Any]:
    try:
        hints = get_type_hints(cls.__init__)
    except NameError:  # a hint that is imported for type checkers alone: the default tells enough
        hints = {p.name: type(p.default) for p in parameters if p.default not in (p.empty, None)}
    known = {p.name: hints.get(p.name, str) for p in parameters}
    converted: dict[str, Any] = {}
    for name, text in options.items():
        if name not in known:
            raise ConfigurationError(
                f"exporter {told!r}: unknown option {name!r}; options are: {', '.join(known) or 'none'}"
            )
        hint = known[name]
        try:
            converted[name] = text if str in (hint, *get_args(hint)) else msgspec.convert(text, hint, strict=False)
        except msgspec.ValidationError:
            choices = ", ".join(map(str, get_args(hint))) if get_origin(hint) is Literal else ""
            wanted = f"choose {choices}" if choices else f"it must be a {getattr(hint, '__name__', hint)}"
            value = "" if name == "headers" else f"={without_user(text)!r}"
            raise ConfigurationError(f"exporter {told!r}: option {name}{value}: {wanted}") from None
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in converted]
    if missing:
        raise ConfigurationError(f"exporter {told!r}: missing {', '.join(missing)}, write {told.split(':')[0]}:VALUE")
    return converted
