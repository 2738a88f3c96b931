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
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from otel_posthog.conversion.model_call import ModelCall, Usage
from otel_posthog.conversion.pricing.rates import DOLLAR, Rates, Tiers, filled, tiers_of

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

__all__ = ["Cost", "PriceBook"]

_HALF_HOUR_NS = 1_800 * 10**9
_LATEST = 4_000_000
"""Half hours from 1970 to 2198; clocks may say anything."""


class Cost(NamedTuple):
    """US dollars. `total` also holds what is billed by request and by search; some tell only that."""

    input: float | None
    output: float | None
    total: float


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
    return _new(Cost, (paid_in / DOLLAR, paid_out / DOLLAR, (paid_in + paid_out + extra) / DOLLAR))


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
        self._exact = {name.lower(): rates for name, rates in own.items() if not is_pattern(name)}
        self._patterns = [(name.lower(), rates) for name, rates in own.items() if is_pattern(name)]
        self._tiers = lru_cache(maxsize=2048)(self._look_up)

    def cost(self, call: ModelCall) -> Cost | None:
        """The cost of the call, or None where model or tokens are not known."""
        details = call.details
        tier = details.get("service_tier") or call.parameters.get("service_tier")
        for model in (call.response_model, call.request_model):
            if model is not None:
                tiers = self._tiers(call.provider, model, tier, call.start_ns // _HALF_HOUR_NS)
                if tiers:
                    images = 0 if call.error is not None else details.get("image_count") or 0
                    return cost_of(call.usage, tiers, images)
        return None

    def _look_up(self, provider: str | None, model: str, tier: str | None, half_hour: int) -> Tiers:
        own = self._own([*_names(model)])
        if own is not None and not own.lacks:
            return ((-1, own),)
        listed = self._listed_tiers(provider, model, tier, half_hour)
        if own is None:
            return listed
        return tuple((start, filled(own, rates)) for start, rates in listed) or ((-1, own),)

    def _listed_tiers(self, provider: str | None, model: str, tier: str | None, half_hour: int) -> Tiers:
        moment = datetime.fromtimestamp(min(max(half_hour, 0), _LATEST) * 1800, timezone.utc)
        for name in _names(model):
            if (price := self._listed(provider, name, tier, moment)) is not None:
                return tiers_of(price)
        return ()

    def lists(self, name: str) -> bool:
        """Whether the built-in table has prices for the model, or for one that fits the pattern."""
        if not is_pattern(name):
            return bool(self._listed_tiers(None, name, None, _LATEST))
        pattern = name.lower()
        models = (model for provider in self._snapshot().providers for model in provider.models)
        return any(fnmatch.fnmatchcase(model.id.lower(), pattern) for model in models)

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


def is_pattern(name: str) -> bool:
    """Whether that names more than one model."""
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
