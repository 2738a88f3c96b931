"""The text of a price file, TOML or JSON, becomes prices; what is wrong is told with its line.

Neither parser tells where a key stood. In JSON the keys are walked once more, with the standard decoder for
every value; in TOML the line of a key is the first up to which the text, parsed alone, has that key.
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
"""Mistakes of a file that are told."""


def read_prices(text: str, *, toml: bool) -> dict[str, Rates]:
    """The prices of the file; see `parse_prices`.

    Raises:
        ValueError: it is no TOML or JSON, or a key or a price is wrong; the text says which, and its line.
    """
    found, wrong = read_prices_and_mistakes(text, toml=toml)
    if wrong:
        raise ValueError(wrong[0])
    return found


def read_prices_and_mistakes(text: str, *, toml: bool) -> tuple[dict[str, Rates], list[str]]:
    """The prices of the file that are right, and a sentence about each mistake, `MAX_REPORTED` at most."""
    text = text.removeprefix("\ufeff")
    parse, line_of = (_parse_toml, line_in_toml) if toml else (_parse_json, _line_in_json)
    told = []
    try:
        found, wrong = _read(parse(text))
        for error in wrong[:MAX_REPORTED]:
            line = line_of(text, error.path)
            told.append(f"{error}" if line is None else f"line {line}: {error}")
    except RecursionError:
        return {}, ["it is nested too deeply to be a price file"]
    except ValueError as error:
        return {}, [str(error)]
    return found, told


# --- what is in it ---

_OWN_KEYS = {field: MILLION if per == MILLION else 1 for field, (_, per) in UNITS.items()} | {"image": 1}


class PriceFileError(ValueError):
    """Something in a price file is wrong; the text says what."""

    def __init__(self, sentence: str, *path: str) -> None:
        super().__init__(sentence)
        self.path = path
        """The keys that lead to it."""


def parse_prices(content: Any) -> dict[str, Rates]:
    """The user's price file, parsed: `{"models": {"my-model-*": {"input": 1.25, "output": 10}}}`.

    Token prices are US dollars per million tokens; `request`, `search` and `image` are US dollars each. Names
    may hold `*`, `?` and `[abc]`; an exact name wins over a pattern, an earlier pattern over a later one.

    Where only one side of a call has a price, the other's is the one of the built-in table, if that has one.

    Raises:
        PriceFileError: a key or a price is wrong; the text says which.
    """
    found, wrong = _read(content)
    if wrong:
        raise wrong[0]
    return found


def _read(content: Any) -> tuple[dict[str, Rates], list[PriceFileError]]:
    """The prices that are right, and all that is wrong."""
    models = content.get("models") if isinstance(content, dict) else None
    if not isinstance(models, dict) or not models:
        return {}, [PriceFileError('a table "models" with at least one model is expected')]
    wrong = [
        PriceFileError(f'{name!r} is not known; all there is is the table "models"', str(name))
        for name in content
        if name != "models"
    ]
    found = {str(name): _own_rates(str(name), prices, wrong.append) for name, prices in models.items()}
    return found, wrong


def _own_rates(name: str, prices: Any, tell: Callable[[PriceFileError], None]) -> Rates:
    where = ("models", name)
    if not isinstance(prices, dict) or not prices:
        tell(PriceFileError(f"model {name!r}: prices such as input = 1.25 are expected", *where))
        return Rates()
    rates = {}
    for key, price in prices.items():
        at, per = (*where, str(key)), _OWN_KEYS.get(key)
        if per is None:
            known = ", ".join(sorted(_OWN_KEYS))
            says = _in_quotes(name, key, price) or f"{key!r} is no price; known are: {known}"
            tell(PriceFileError(f"model {name!r}: {says}", *at))
        elif isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < _MOST:
            tell(PriceFileError(f"model {name!r}: the price {key!r} must be a number, zero or more", *at))
        elif price and not in_units(price, per):
            least = "1e-9 US dollars per million tokens" if per == MILLION else "1e-15 US dollars"
            tell(PriceFileError(f"model {name!r}: the price {key!r} is below the least one, {least}", *at))
        else:
            rates[key] = in_units(price, per)
    return Rates(**rates)


def _in_quotes(name: str, key: str, value: Any) -> str | None:
    """What to say where TOML took a dot in a name for a level."""
    while isinstance(value, dict):
        name = f"{name}.{key}"
        inner = next(iter(value.items()), ("", None))
        if not isinstance(inner[1], dict):
            return f'in TOML a name with dots stands in quotes: [models."{name}"]'
        key, value = inner
    return None


_MOST = 1e9
"""More than this, in US dollars, is a slip of the pen."""


# --- TOML ---


def _parse_toml(text: str) -> Any:
    try:
        return parse_toml(text)
    except ValueError as error:
        raise ValueError(_helpful(text, str(error))) from None


_AT = re.compile(r"\(at line (\d+), column \d+\)")
_TWICE = re.compile("overwrite|twice|duplicate|redefine|mutate", re.IGNORECASE)
_NAMES_MODEL = re.compile(r"\s*(?:\[\s*)?models\s*\.\s*(?![\"'])([^\]=]+)")


def _helpful(text: str, says: str) -> str:
    """What the parser says, and what to do about the two slips that happen most."""
    found = _AT.search(says)
    if found is None:
        return says
    number = int(found[1])
    line = "".join(text.split("\n")[number - 1 : number]).strip()
    if _TWICE.search(says):
        return f"line {number}: {line.partition('=')[0].strip()} is there already, further up"
    name = _NAMES_MODEL.match(line)
    if name is not None and re.search(r"[^\w.\s-]", name[1]):
        return f'line {number}: a name such as this stands in quotes: [models."{name[1].strip()}"]'
    return says


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
