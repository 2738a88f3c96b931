"""Unit prices of one token, image, request or search, as whole numbers of 10**-15 US dollars."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

__all__ = ["DOLLAR", "MILLION", "UNITS", "Rates", "Tiers", "in_units", "tiers_of", "with_missing_side"]

DOLLAR = 10**15
"""Units in a US dollar. No price of a token in the data of `genai-prices` has more than twelve decimals. Sums
up to nine dollars are divided as fast as floats."""
MILLION = 1_000_000
_THOUSAND = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Prices of one token (request, search, image), 10**15 to the US dollar; None: no price of its own."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_read_audio: int | None = None
    input_image: int | None = None
    input_audio: int | None = None
    output_image: int | None = None
    output_audio: int | None = None
    reasoning: int | None = None
    request: int | None = None
    search: int | None = None
    image: int | None = None
    """For each generated image, in addition to its tokens."""

    @property
    def lacks(self) -> tuple[str, ...]:
        """The sides of a call without a price; empty if only requests or images have prices."""
        missing = tuple(side for side in SIDES if getattr(self, side) is None)
        has_flat_price = self.request is not None or self.image is not None
        return () if has_flat_price and len(missing) == len(SIDES) else missing


SIDES: dict[str, tuple[str, ...]] = {
    "input": ("input", "cache_read", "cache_write", "cache_read_audio", "input_image", "input_audio"),
    "output": ("output", "output_image", "output_audio", "reasoning"),
}
"""The two sides of a call, and the rates of each."""

Tiers = tuple[tuple[int, Rates], ...]
"""Numbers of input tokens, and the rates above each for all tokens of the call; the highest number first."""

UNITS: dict[str, tuple[str, int]] = {
    "input": ("input_mtok", MILLION),
    "output": ("output_mtok", MILLION),
    "cache_read": ("cache_read_mtok", MILLION),
    "cache_write": ("cache_write_mtok", MILLION),
    "cache_read_audio": ("cache_audio_read_mtok", MILLION),
    "input_image": ("input_image_mtok", MILLION),
    "input_audio": ("input_audio_mtok", MILLION),
    "output_image": ("output_image_mtok", MILLION),
    "output_audio": ("output_audio_mtok", MILLION),
    "reasoning": ("output_reasoning_mtok", MILLION),
    "request": ("requests_kcount", _THOUSAND),
    "search": ("web_searches_kcount", _THOUSAND),
}
"""By field of `Rates`: the price key of `genai-prices`, and the number of units that its price is for."""


def with_missing_side(own: Rates, listed: Rates) -> Rates:
    """Return the own rates, and the table's rates for a side that has no own price."""
    names = [name for side in own.lacks for name in SIDES[side] if getattr(own, name) is None]
    return replace(own, **{name: getattr(listed, name) for name in names})


def tiers_of(price: ModelPrice) -> Tiers:
    """Return the rates of a model in the table by number of input tokens; empty if it has no prices."""
    values = {field: (getattr(price, key, None), per) for field, (key, per) in UNITS.items()}
    starts = {-1}
    for value, _ in values.values():
        starts.update(tier.start for tier in getattr(value, "tiers", ()))
    tiers = []
    for start in sorted(starts, reverse=True):
        rates = {
            field: in_units(at, per)
            for field, (value, per) in values.items()
            if (at := _at(value, start)) is not None
        }
        tiers.append((start, Rates(**rates)))
    return tuple(tiers) if any(getattr(tiers[-1][1], f.name) is not None for f in fields(Rates)) else ()


def _at(value: Any, start: int) -> Any:
    """Return the price for more than `start` input tokens."""
    if not hasattr(value, "tiers"):
        return value
    price = value.base
    for tier in value.tiers:
        if start >= tier.start:
            price = tier.price
    return price


def in_units(price: Any, per: int) -> int:
    """Return the units of `DOLLAR` for one token, of a price in US dollars for `per` tokens."""
    return round(Decimal(str(price)) * DOLLAR / per)
