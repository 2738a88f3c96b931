"""Unit prices: what one token, image, request or search costs, as whole numbers of a small unit."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

__all__ = ["DOLLAR", "MILLION", "UNITS", "Rates", "Tiers", "filled", "in_units", "tiers_of"]

DOLLAR = 10**15
"""Units in a US dollar. No price in the data has more than twelve decimals for one token; up to nine dollars,
such a sum is divided as fast as floats are."""
MILLION = 1_000_000
_THOUSAND = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """For one token (request, search, image), 10**15 to the US dollar; None: not priced apart."""

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
    """For each image that was made, beside its tokens."""

    @property
    def lacks(self) -> tuple[str, ...]:
        """Which side of a call has no price; none is missing where a call or its images alone have one."""
        missing = tuple(side for side in SIDES if getattr(self, side) is None)
        alone = self.request is not None or self.image is not None
        return () if alone and len(missing) == len(SIDES) else missing


SIDES: dict[str, tuple[str, ...]] = {
    "input": ("input", "cache_read", "cache_write", "cache_read_audio", "input_image", "input_audio"),
    "output": ("output", "output_image", "output_audio", "reasoning"),
}
"""What is asked and what is answered, and the rates of each."""

Tiers = tuple[tuple[int, Rates], ...]
"""`(more input tokens than this, rates)`, the highest first; crossing a step prices all tokens anew."""

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
"""Our rate, and the price key of `genai-prices` it comes from with the number of units that price is for."""


def filled(own: Rates, listed: Rates) -> Rates:
    """The own rates, and those of the table for a side that has none."""
    names = [name for side in own.lacks for name in SIDES[side] if getattr(own, name) is None]
    return replace(own, **{name: getattr(listed, name) for name in names})


def tiers_of(price: ModelPrice) -> Tiers:
    """The rates of a model in the table, by how many input tokens there are."""
    values = {field: (getattr(price, key, None), per) for field, (key, per) in UNITS.items()}
    starts = {-1}
    for value, _ in values.values():
        starts.update(tier.start for tier in getattr(value, "tiers", ()))
    made = []
    for start in sorted(starts, reverse=True):
        rates = {
            field: in_units(at, per)
            for field, (value, per) in values.items()
            if (at := _at(value, start)) is not None
        }
        made.append((start, Rates(**rates)))
    return tuple(made) if any(getattr(made[-1][1], f.name) is not None for f in fields(Rates)) else ()


def _at(value: Any, start: int) -> Any:
    """The price for more than `start` input tokens."""
    if not hasattr(value, "tiers"):
        return value
    price = value.base
    for tier in value.tiers:
        if start >= tier.start:
            price = tier.price
    return price


def in_units(price: Any, per: int) -> int:
    """Our units for one token of a price in US dollars for so many."""
    return round(Decimal(str(price)) * DOLLAR / per)
