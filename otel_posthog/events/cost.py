"""What a call cost: unit prices from `genai-prices` (offline) or the user's own file, times its tokens.

Prices are looked up once per provider, model, service tier and half hour (some change by date or time of
day), and kept as whole numbers of a small unit per token: costing a call is then a few multiplications, and
exact. The arithmetic is that of `genai_prices.calc_price`, and tests hold it against that for every model in
its data.

What that data does not price, or our usage does not count, has no cost here either: seconds of audio,
characters, pages. It prices images by their tokens; a price for each image is for the own file to say.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_posthog.calls import ModelCall, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

__all__ = ["MILLION", "UNITS", "Cost", "PriceBook", "Rates", "in_units"]

_DOLLAR = 10**15
"""Units in a US dollar. No price in the data has more than twelve decimals for one token; up to nine dollars,
such a sum is divided as fast as floats are."""
MILLION = 1_000_000
_THOUSAND = 1000
_HALF_HOUR_NS = 1_800 * 10**9
_LATEST = 4_000_000
"""Half hours from 1970 to 2198; clocks may say anything."""


class Cost(NamedTuple):
    """US dollars. `total` also holds what is billed by request and by search; some tell only that."""

    input: float | None
    output: float | None
    total: float


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

_PROVIDERS = {
    "azure": "azure",
    "bedrock": "aws",
    "vertex": "google",
    "google": "google",
    "xai": "x-ai",
    "moonshot": "moonshotai",
}
"""Our provider words where `genai-prices` has another id."""

_DATED = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{3}|latest)$")


def cost_of(usage: Usage, tiers: Tiers, images: int = 0) -> Cost | None:
    """The cost of these tokens, and of so many images; None where nothing that was reported has a price."""
    asked, answered = usage.input, usage.output
    cache_read, cache_write = usage.cache_read or 0, usage.cache_write or 0
    total_input = asked or 0
    if usage.cache_exclusive or total_input < cache_read + cache_write:
        total_input += cache_read + cache_write  # fewer tokens than their own part: it was not counted in
    rates = tiers[-1][1]
    if len(tiers) > 1:
        rates = next((each for above, each in tiers if total_input > above), rates)
    rate_in, rate_out = rates.input, rates.output
    pictured = images * rates.image if images and rates.image is not None else 0
    if (asked is None or rate_in is None) and (answered is None or rate_out is None):
        if rates.request is None and not pictured:
            return None
    elif (asked and rate_in is None) or (answered and rate_out is None):
        return None  # half a price is a wrong price

    if cache_read or cache_write or usage.input_audio or usage.input_image:
        audio_cached = (
            min(usage.cache_read_audio or 0, cache_read) if rates.cache_read_audio is not None else 0
        )
        paid_in = _pay(
            total_input,
            rate_in,
            (audio_cached, rates.cache_read_audio),
            (cache_read - audio_cached, rates.cache_read),
            (cache_write, rates.cache_write),
            ((usage.input_audio or 0) - audio_cached, rates.input_audio),
            (usage.input_image or 0, rates.input_image),
        )
    else:
        paid_in = total_input * (rate_in or 0)
    if (
        (rates.output_image is not None and usage.output_image)
        or (rates.output_audio is not None and usage.output_audio)
        or (rates.reasoning is not None and usage.reasoning)
    ):
        paid_out = _pay(
            answered or 0,
            rate_out,
            (usage.output_image or 0, rates.output_image),
            (usage.output_audio or 0, rates.output_audio),
            (usage.reasoning or 0, rates.reasoning),
        )
    else:
        paid_out = (answered or 0) * (rate_out or 0)
    paid_out += pictured
    extra = rates.request or 0
    if rates.search is not None and usage.searches:
        extra += usage.searches * rates.search
    return _new(Cost, (paid_in / _DOLLAR, paid_out / _DOLLAR, (paid_in + paid_out + extra) / _DOLLAR))


_new = tuple.__new__  # `Cost(...)` takes twice as long


def _pay(whole: int, rate: int | None, *parts: tuple[int, int | None]) -> int:
    """What `whole` tokens cost of which some have a rate of their own; more than the whole are not paid."""
    left, paid = whole, 0
    for tokens, own_rate in parts:
        if own_rate is not None and tokens > 0:
            part = tokens if tokens < left else left  # noqa: FURB136  # a call to `min` takes longer
            paid += part * own_rate
            left -= part
    return paid + left * (rate or 0)


class PriceBook:
    """Finds the unit prices of a call and works out its cost. `own` wins over the built-in table."""

    def __init__(self, own: Mapping[str, Rates] | None = None) -> None:
        # A fifth of a second, so not with this module; here, because later would be in somebody's call.
        import genai_prices.data_snapshot

        self._snapshot = genai_prices.data_snapshot.get_snapshot
        self._snapshot()
        own = own or {}
        self._exact = {name.lower(): rates for name, rates in own.items() if not _is_pattern(name)}
        self._patterns = [(name.lower(), rates) for name, rates in own.items() if _is_pattern(name)]
        self._tiers = lru_cache(maxsize=2048)(self._look_up)

    def cost(self, call: ModelCall) -> Cost | None:
        """The cost of the call, or None where model or tokens are not known."""
        facts = call.facts
        tier = facts.get("service_tier") or call.parameters.get("service_tier")
        for model in (call.response_model, call.request_model):
            if model is not None:
                tiers = self._tiers(call.provider, model, tier, call.start_ns // _HALF_HOUR_NS)
                if tiers:
                    images = 0 if call.error is not None else facts.get("image_count") or 0
                    return cost_of(call.usage, tiers, images)
        return None

    def _look_up(self, provider: str | None, model: str, tier: str | None, half_hour: int) -> Tiers:
        if (rates := self._own([*_names(model)])) is not None:
            return ((-1, rates),)
        moment = datetime.fromtimestamp(min(max(half_hour, 0), _LATEST) * 1800, timezone.utc)
        for name in _names(model):
            if (price := self._listed(provider, name, tier, moment)) is not None:
                return _tiers_of(price)
        return ()

    def _listed(
        self, provider: str | None, model: str, tier: str | None, moment: datetime
    ) -> ModelPrice | None:
        snapshot = self._snapshot()
        named = _PROVIDERS.get(provider or "", provider)
        known = named if any(listed.id == named for listed in snapshot.providers) else None
        try:
            provider_found, found = snapshot.find_provider_model(model, None, known, None)
        except LookupError:
            return None
        # A model of another provider, to whose prices it falls back, has the standard price only.
        context = _context(tier) if any(found is listed for listed in provider_found.models) else None
        return found.get_prices(moment, context)

    def _own(self, names: Sequence[str]) -> Rates | None:
        for name in names:
            if (rates := self._exact.get(name)) is not None:
                return rates
        for name in names:
            for pattern, rates in self._patterns:
                if fnmatch.fnmatchcase(name, pattern):
                    return rates
        return None


def _context(tier: str | None) -> dict[str, str] | None:
    """By what `genai-prices` tells apart the prices of a model; batches are a tier in providers' answers."""
    if not tier:
        return None
    word = tier.strip().lower()
    return {"processing": "batch"} if word == "batch" else {"service_tier": word}


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _names(model: str) -> Iterator[str]:
    """The name as given; without its path (`models/`, `openai/`, `publishers/google/models/`); undated."""
    name = model.strip().lower()
    tail = name.rpartition("/")[2]
    yield name
    if tail != name:
        yield tail
    if (undated := _DATED.sub("", tail)) != tail:
        yield undated


def _tiers_of(price: ModelPrice) -> Tiers:
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
    return round(Decimal(str(price)) * _DOLLAR / per)
