"""Registry of exporters: installed names, and instances made from specs such as `jsonl:runs/`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec

from sidestream.errors import ConfigurationError, UnknownExporterError

from .addresses import shown_url
from .exporter import Exporter

ENTRY_POINT_GROUP = "sidestream.exporters"

_MEMBERS = (
    *("name", "content", "skip", "interval", "durable", "eager", "threaded", "spans"),
    *("bind", "start", "export", "flush", "close", "after_fork"),
)


def check_exporter(item: object, origin: str) -> Exporter:
    """Return `item` if it is an exporter; otherwise raise a `ConfigurationError` that names `origin`."""
    missing = [name for name in _MEMBERS if not hasattr(item, name)]
    if isinstance(item, type) or missing or not isinstance(getattr(item, "name", None), str):
        raise ConfigurationError(
            f"{origin} is not an exporter: give a name such as 'jsonl:runs/', or an instance of a subclass of "
            f"sidestream.Exporter" + (f" (missing here: {', '.join(missing)})" if missing else "")
        )
    return cast(Exporter, item)


# --- look-up by name -----------------------------------------------------------------------------------------------


def available_exporters() -> list[str]:
    """Names of the installed exporters, sorted."""
    return sorted({entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)})


def split_specs(text: str) -> list[str]:
    """Split specs separated by commas (or by semicolons, if a target contains a comma)."""
    return [spec.strip() for spec in text.split(";" if ";" in text else ",") if spec.strip()]


def unknown_exporter(displayed: str, name: str) -> UnknownExporterError:
    """Make the error for the spec `displayed`, whose exporter `name` is not installed."""
    import difflib  # imported only for errors, because the import takes milliseconds

    there = available_exporters()
    close = difflib.get_close_matches(name, there, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    known = ", ".join(there)
    return UnknownExporterError(
        f"exporter {displayed!r}: there is no exporter {shown(name)!r}; {guess}installed are: {known}"
    )


def make_exporter(spec: str) -> Exporter:
    """Make an exporter from `spec`: `name`, `name:target`, `name:target?option=value&…`, `name:?option=value`.

    A class that is not installed under a name is written `module:Class` or `module:Class?option=value`.

    The target is the class's first parameter, options are its keyword parameters, converted to their annotated types:
    `"console"`, `"jsonl:runs/"`, `"jsonl:runs/?chunks=all&content=metadata"`, `"console:?verbose=true"`.

    Raises:
        UnknownExporterError: no exporter of this name is installed.
        ConfigurationError: unknown option, or a value that cannot work.
    """
    displayed = shown(spec)
    name, _, rest = spec.strip().partition(":")
    target, question, query = rest.rpartition("?") if "?" in rest else (rest, "", "")
    entry = next((e for e in entry_points(group=ENTRY_POINT_GROUP) if e.name == name), None)
    if entry is None and not (target.isidentifier() and _is_module(name)):
        raise unknown_exporter(displayed, name)
    try:
        cls: type[Exporter] = entry.load() if entry is not None else getattr(import_module(name), target)
        target = target if entry is not None else ""
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"exporter {displayed!r}: {name!r} does not import: {error}") from error
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = [p for p in inspect.signature(cls).parameters.values() if p.kind not in variable]
    options = dict(parse_qsl(query, keep_blank_values=True)) if question else {}
    if target:
        if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
            raise ConfigurationError(f"exporter {displayed!r}: {name!r} takes no target, write {name}:?option=value")
        options = {parameters[0].name: target, **options}
    return check_exporter(cls(**_convert(displayed, cls, parameters, options)), f"exporter {displayed!r}")


def shown(spec: str) -> str:
    """Displayable form of `spec` without options and parts of URLs that may contain a key."""
    before_options = cast(re.Match[str], re.match(r"[^:?=]*(:[^?]*)?", spec.strip()))
    name, colon, target = before_options[0].partition(":")
    return f"{name}{colon}{shown_url(target)}"


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _convert(
    displayed: str, cls: type[Exporter], parameters: Sequence[inspect.Parameter], options: Mapping[str, str]
) -> dict[str, Any]:
    try:
        hints = get_type_hints(cls.__init__)
    except NameError:  # an annotation imported for type checkers only: use the type of the default
        hints = {p.name: type(p.default) for p in parameters if p.default not in (p.empty, None)}
    known = {p.name: hints.get(p.name, str) for p in parameters}
    converted: dict[str, Any] = {}
    for name, text in options.items():
        if name not in known:
            # The text may be the end of a password that contains `?`, or a key: only plausible option names are
            # repeated.
            called = f" {name!r}" if re.fullmatch("[a-z_]{1,30}", name) else ""
            raise ConfigurationError(
                f"exporter {displayed!r}: unknown option{called}; options are: {', '.join(known) or 'none'}"
            )
        hint = known[name]
        try:
            converted[name] = text if str in (hint, *get_args(hint)) else msgspec.convert(text, hint, strict=False)
        except msgspec.ValidationError:
            choices = ", ".join(map(str, get_args(hint))) if get_origin(hint) is Literal else ""
            wanted = f"choose {choices}" if choices else f"it must be a {getattr(hint, '__name__', hint)}"
            value = "" if name == "headers" else f"={shown_url(text)!r}"
            raise ConfigurationError(f"exporter {displayed!r}: option {name}{value}: {wanted}") from None
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in converted]
    if missing:
        raise ConfigurationError(
            f"exporter {displayed!r}: missing {', '.join(missing)}, write {displayed.split(':')[0]}:VALUE"
        )
    return converted
