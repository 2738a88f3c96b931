"""The text of a price file, TOML or JSON, becomes prices; what is wrong is told with its line.

Neither parser tells where a key stood. In JSON the keys are walked once more, with the standard decoder for
every value; in TOML the line of a key is the first up to which the text, parsed alone, has that key.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from otel_posthog.events.cost import Rates, WrongPriceError, own_prices

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_prices"]


def read_prices(text: str, *, toml: bool) -> dict[str, Rates]:
    """The prices of the file; see `own_prices`.

    Raises:
        ValueError: it is no TOML or JSON, or a key or a price is wrong; the text says which, and its line.
    """
    text = text.removeprefix("\ufeff")
    parse, line_of = (_parse_toml, _line_in_toml) if toml else (_parse_json, _line_in_json)
    try:
        return own_prices(parse(text))
    except WrongPriceError as error:
        line = line_of(text, error.path)
        raise ValueError(f"{error}" if line is None else f"line {line}: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply to be a price file") from None


# --- TOML ---


def _parse_toml(text: str) -> Any:
    return tomllib.loads(text + "\n")  # a fault at the very end is told without a line


def _line_in_toml(text: str, path: Sequence[str]) -> int | None:
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


# --- JSON ---

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_LEVELS = 2
"""Objects within the outermost: the models, and the prices of each."""


def _parse_json(text: str) -> Any:
    """As `json.loads`, but a name that is there twice is wrong: the later one would hide the earlier."""
    parsed = json.loads(text)
    if isinstance(parsed, dict):
        _check_once(text, _after_space(text, 0), _LEVELS)
    return parsed


def _check_once(text: str, start: int, levels: int) -> None:
    seen: dict[str, int] = {}
    for key, at, value_at in _pairs(text, start):
        if key in seen:
            first = _line(text, seen[key])
            raise ValueError(f"line {_line(text, at)}: {key!r} is there already, in line {first}")
        seen[key] = at
        if levels and text[value_at] == "{":
            _check_once(text, value_at, levels - 1)


def _line_in_json(text: str, path: Sequence[str]) -> int | None:
    start, at = _after_space(text, 0), None
    for key in path:
        at, start = next((key_at, value_at) for name, key_at, value_at in _pairs(text, start) if name == key)
    return None if at is None else _line(text, at)


def _pairs(text: str, start: int) -> Iterator[tuple[str, int, int]]:
    """The keys of the object that begins at `start` of a valid text: each, where it is, and its value."""
    at = _after_space(text, start + 1)
    while text[at] != "}":
        key, end = _DECODER.raw_decode(text, at)
        value_at = _after_space(text, _after_space(text, end) + 1)
        yield key, at, value_at
        _, end = _DECODER.raw_decode(text, value_at)
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
