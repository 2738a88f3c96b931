"""The text of a price file, TOML or JSON, becomes prices; what is wrong is told with its line.

Neither parser tells where a key stood. In JSON the keys are walked once more, with the standard decoder for
every value; in TOML the line of a key is the first up to which the text, parsed alone, has that key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from otel_posthog.events.cost import MILLION, UNITS, Rates, in_units
from otel_posthog.toml_lines import line_in_toml, parse_toml

__all__ = ["WrongPriceError", "own_prices", "read_prices"]


def read_prices(text: str, *, toml: bool) -> dict[str, Rates]:
    """The prices of the file; see `own_prices`.

    Raises:
        ValueError: it is no TOML or JSON, or a key or a price is wrong; the text says which, and its line.
    """
    text = text.removeprefix("\ufeff")
    parse, line_of = (parse_toml, line_in_toml) if toml else (_parse_json, _line_in_json)
    try:
        return own_prices(parse(text))
    except WrongPriceError as error:
        line = line_of(text, error.path)
        raise ValueError(f"{error}" if line is None else f"line {line}: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply to be a price file") from None


# --- what is in it ---

_OWN_KEYS = {field: MILLION if per == MILLION else 1 for field, (_, per) in UNITS.items()} | {"image": 1}


class WrongPriceError(ValueError):
    """Something in a price file is wrong; the text says what."""

    def __init__(self, sentence: str, *path: str) -> None:
        super().__init__(sentence)
        self.path = path
        """The keys that lead to it."""


def own_prices(content: Any) -> dict[str, Rates]:
    """The user's price file, parsed: `{"models": {"my-model-*": {"input": 1.25, "output": 10}}}`.

    Token prices are US dollars per million tokens; `request`, `search` and `image` are US dollars each. Names
    may hold `*`, `?` and `[abc]`; an exact name wins over a pattern, an earlier pattern over a later one.

    Raises:
        WrongPriceError: a key or a price is wrong; the text says which.
    """
    models = content.get("models") if isinstance(content, dict) else None
    if not isinstance(models, dict) or not models:
        raise WrongPriceError('a table "models" with at least one model is expected')
    if strange := [str(name) for name in content if name != "models"]:
        raise WrongPriceError(f'{strange[0]!r} is not known; all there is is the table "models"', strange[0])
    return {str(name): _own_rates(str(name), prices) for name, prices in models.items()}


def _own_rates(name: str, prices: Any) -> Rates:
    where = ("models", name)
    if not isinstance(prices, dict) or not prices:
        raise WrongPriceError(f"model {name!r}: prices such as input = 1.25 are expected", *where)
    rates = {}
    for key, price in prices.items():
        if key not in _OWN_KEYS:
            known = ", ".join(sorted(_OWN_KEYS))
            raise WrongPriceError(
                f"model {name!r}: {key!r} is no price; known are: {known}", *where, str(key)
            )
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < _MOST:
            raise WrongPriceError(
                f"model {name!r}: the price {key!r} must be a number, zero or more", *where, str(key)
            )
        rates[key] = in_units(price, _OWN_KEYS[key])
    return Rates(**rates)


_MOST = 1e9
"""More than this, in US dollars, is a slip of the pen."""


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
