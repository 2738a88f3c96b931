"""TOML files that a person writes, read so that an error can name the line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["line_in_toml", "parse_toml"]


def parse_toml(text: str) -> dict[str, Any]:
    """Return the content of a TOML document.

    Raises:
        ValueError: it is not TOML; the text states why and in which line.
    """
    return tomllib.loads(text + "\n")  # without a last newline, an error at the very end has no line


def line_in_toml(text: str, path: Sequence[str]) -> int | None:
    """Return the line of the key at the end of `path`, which no parser reports; None if there is none.

    It is the last line of the shortest beginning of `text` that has that key when parsed alone.
    """
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if path and path[-1] in line and _has("\n".join(lines[:number]), path):
            return number
    return None


def _has(text: str, path: Sequence[str]) -> bool:
    try:
        value: Any = tomllib.loads(text)
    except ValueError:  # `text` ends in the middle of a value
        return False
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True
