"""The prices in a price file, TOML or JSON, and its mistakes with their lines.

Neither parser reports the line of a key. In JSON we walk the keys a second time, with the standard decoder
for each value. In TOML the line of a key is the first line up to which the text, parsed alone, has that key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from otel_posthog.conversion.pricing.rates import MILLION, UNITS, Rates, in_units
from otel_posthog.runtime.toml_errors import line_in_toml, parse_toml

__all__ = ["MAX_REPORTED", "PriceFileError", "parse_prices", "read_prices", "read_prices_and_mistakes"]

MAX_REPORTED = 20
"""Mistakes that are reported of one file."""


def read_prices(text: str, *, toml: bool) -> dict[str, Rates]:
    """Return the prices in the text of a file; see `parse_prices`.

    Raises:
        ValueError: it is not TOML or JSON, or a key or a price is invalid; the text names it and its line.
    """
    prices, mistakes = read_prices_and_mistakes(text, toml=toml)
    if mistakes:
        raise ValueError(mistakes[0])
    return prices


def read_prices_and_mistakes(text: str, *, toml: bool) -> tuple[dict[str, Rates], list[str]]:
    """Return the valid prices, and one sentence per mistake, `MAX_REPORTED` at most."""
    text = text.removeprefix("\ufeff")
    parse, line_of = (_parse_toml, line_in_toml) if toml else (_parse_json, _line_in_json)
    mistakes = []
    try:
        prices, errors = _read(parse(text))
        for error in errors[:MAX_REPORTED]:
            line = line_of(text, error.path)
            mistakes.append(f"{error}" if line is None else f"line {line}: {error}")
    except RecursionError:
        return {}, ["nested too deeply for a price file"]
    except ValueError as error:
        return {}, [str(error)]
    return prices, mistakes


# --- the content ---

_OWN_KEYS = {field: MILLION if per == MILLION else 1 for field, (_, per) in UNITS.items()} | {"image": 1}


class PriceFileError(ValueError):
    """A mistake in a price file."""

    def __init__(self, sentence: str, *path: str) -> None:
        super().__init__(sentence)
        self.path = path
        """The keys that lead to the mistake."""


def parse_prices(content: Any) -> dict[str, Rates]:
    """Return the prices in a parsed file: `{"models": {"my-model-*": {"input": 1.25, "output": 10}}}`.

    Token prices are US dollars per million tokens; `request`, `search` and `image` are US dollars each. Names
    may hold `*`, `?` and `[abc]`; an exact name wins over a pattern, an earlier pattern over a later one. If
    a model has prices for its input or its output only, `PriceBook` takes the others from the built-in table.

    Raises:
        PriceFileError: a key or a price is invalid; the text names it.
    """
    prices, errors = _read(content)
    if errors:
        raise errors[0]
    return prices


def _read(content: Any) -> tuple[dict[str, Rates], list[PriceFileError]]:
    """Return the valid prices and all mistakes."""
    models = content.get("models") if isinstance(content, dict) else None
    if not isinstance(models, dict) or not models:
        return {}, [PriceFileError('expected a table "models" with at least one model')]
    errors = [
        PriceFileError(f'unknown key {name!r}: the only one is the table "models"', str(name))
        for name in content
        if name != "models"
    ]
    rates = {str(name): _own_rates(str(name), prices, errors.append) for name, prices in models.items()}
    return rates, errors


def _own_rates(name: str, prices: Any, report: Callable[[PriceFileError], None]) -> Rates:
    model_path = ("models", name)
    if not isinstance(prices, dict) or not prices:
        report(PriceFileError(f"model {name!r}: expected prices such as input = 1.25", *model_path))
        return Rates()
    rates = {}
    for key, price in prices.items():
        path, per = (*model_path, str(key)), _OWN_KEYS.get(key)
        if per is None:
            known = ", ".join(sorted(_OWN_KEYS))
            problem = _unquoted_name(name, key, price) or f"unknown price {key!r}; known prices are: {known}"
            report(PriceFileError(f"model {name!r}: {problem}", *path))
        elif isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < _MOST:
            report(PriceFileError(f"model {name!r}: the price {key!r} must be a number, zero or more", *path))
        elif price and not in_units(price, per):
            least = "1e-9 US dollars per million tokens" if per == MILLION else "1e-15 US dollars"
            problem = f"the price {key!r} is below the smallest one, {least}"
            report(PriceFileError(f"model {name!r}: {problem}", *path))
        else:
            rates[key] = in_units(price, per)
    return Rates(**rates)


def _unquoted_name(name: str, key: str, value: Any) -> str | None:
    """Return the advice to quote a name if TOML took a dot in it for a level of nesting."""
    while isinstance(value, dict):
        name = f"{name}.{key}"
        inner = next(iter(value.items()), ("", None))
        if not isinstance(inner[1], dict):
            return f'quote a name with dots in TOML: [models."{name}"]'
        key, value = inner
    return None


_MOST = 1e9
"""US dollars; a higher price is a slip of the pen."""


# --- TOML ---


def _parse_toml(text: str) -> Any:
    try:
        return parse_toml(text)
    except ValueError as error:
        raise ValueError(_with_advice(text, str(error))) from None


_AT = re.compile(r"\(at line (\d+), column \d+\)")
_TWICE = re.compile("overwrite|twice|duplicate|redefine|mutate", re.IGNORECASE)
_NAMES_MODEL = re.compile(r"\s*(?:\[\s*)?models\s*\.\s*(?![\"'])([^\]=]+)")


def _with_advice(text: str, error: str) -> str:
    """Return the parser's error, or advice on the two most frequent slips."""
    position = _AT.search(error)
    if position is None:
        return error
    number = int(position[1])
    line = "".join(text.split("\n")[number - 1 : number]).strip()
    if _TWICE.search(error):
        return f"line {number}: {line.partition('=')[0].strip()} is already defined above"
    name = _NAMES_MODEL.match(line)
    if name is not None and re.search(r"[^\w.\s-]", name[1]):
        return f'line {number}: quote such a name: [models."{name[1].strip()}"]'
    return error


# --- JSON ---

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_LEVELS = 2
"""Levels of objects below the outermost: the models, and the prices of each."""


def _parse_json(text: str) -> Any:
    """Return the document as `json.loads` does, but raise if a name occurs twice: the second would win."""
    parsed = json.loads(text)
    if isinstance(parsed, dict):
        _check_once(text, _after_space(text, 0), _LEVELS)
    return parsed


def _check_once(text: str, start: int, levels: int) -> None:
    positions: dict[str, int] = {}
    for key, at, value_at in _pairs(text, start):
        if key in positions:
            first = _line(text, positions[key])
            raise ValueError(f"line {_line(text, at)}: {key!r} is already defined in line {first}")
        positions[key] = at
        if levels and text[value_at] == "{":
            _check_once(text, value_at, levels - 1)


def _line_in_json(text: str, path: Sequence[str]) -> int | None:
    start, at = _after_space(text, 0), None
    for key in path:
        at, start = next((key_at, value_at) for name, key_at, value_at in _pairs(text, start) if name == key)
    return None if at is None else _line(text, at)


def _pairs(text: str, start: int) -> Iterator[tuple[str, int, int]]:
    """Yield each key of the object at `start` of a valid text, its position, and that of its value."""
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
    space = _SPACE.match(text, at)
    return at if space is None else space.end()


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
