"""TOML files of people, told to be wrong with the line."""

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
    """What the text says.

    Raises:
        ValueError: it is no TOML; the text says why and in which line.
    """
    return tomllib.loads(text + "\n")  # a fault at the very end is told without a line


def line_in_toml(text: str, path: Sequence[str]) -> int | None:
    """The line where the key at the end of `path` stands, which no parser tells.

    It is the first up to which the text, parsed alone, has that key.
    """
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if path and path[-1] in line and _has("\n".join(lines[:number]), path):
            return number
    return None


def _has(text: str, path: Sequence[str]) -> bool:
    try:
        found: Any = tomllib.loads(text)
    except ValueError:  # in the middle of something
        return False
    for key in path:
        if not isinstance(found, Mapping) or key not in found:
            return False
        found = found[key]
    return True
