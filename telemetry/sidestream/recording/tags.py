"""Tags of a run: what a program may say of it, within bounds."""

from __future__ import annotations

from collections.abc import Mapping

from sidestream.errors import ConfigurationError

MAX_TAGS, MAX_TAG_NAME, MAX_TAG_VALUE = 32, 64, 256
"""Tags of a run; characters of a tag's name and of its value."""


def checked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """`tags` within bounds; a value that is too long is cut, for it may come with each request.

    Raises `ConfigurationError` for what is wrong in the program itself.
    """
    if len(tags) > MAX_TAGS:
        raise ConfigurationError(f"tags: {len(tags)} are too many, there may be {MAX_TAGS}")
    for name, value in tags.items():
        if not isinstance(name, str) or not 0 < len(name) <= MAX_TAG_NAME:
            raise ConfigurationError(f"tags: the name {name!r} must be a string of 1 to {MAX_TAG_NAME} characters")
        if not isinstance(value, str):
            raise ConfigurationError(f"tags: {name}={value!r} is a {type(value).__name__}, it must be a string")
    return {name: v if len(v) <= MAX_TAG_VALUE else v[: MAX_TAG_VALUE - 1] + "…" for name, v in tags.items()}
