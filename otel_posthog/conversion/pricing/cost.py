"""The cost of a call: its tokens times unit prices from `genai-prices` (offline) or from the user's own file.

`PriceBook` looks prices up once per provider, model, service tier and half hour, because some change by date
or time of day. It keeps them as whole numbers, so that costing a call takes a few multiplications and is
exact. The arithmetic is that of `genai_prices.calc_price`; tests compare both for every model in its data.

Limits: seconds of audio, characters and pages have no cost, because that data does not price them or `Usage`
does not count them. The data prices images by their tokens; a price per image needs the user's own file.

Source: package `genai-prices` (github.com/pydantic/genai-prices), which collects the providers' price pages.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from otel_posthog.conversion.model_call import ModelCall, Usage
from otel_posthog.conversion.pricing.rates import DOLLAR, Rates, Tiers, tiers_of, with_missing_side

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

__all__ = ["Cost", "PriceBook"]

_HALF_HOUR_NS = 1_800 * 10**9
_LATEST = 4_000_000
"""Half hours from 1970 to 2198, since a span may have any timestamp."""


class Cost(NamedTuple):
    """US dollars. `total` includes prices per request and search; some providers report only the total."""

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
"""Ids of `genai-prices` by our name of the provider, if they differ."""

_DATED = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{3}|latest)$")


def cost_of(usage: Usage, tiers: Tiers, images: int = 0) -> Cost | None:
    """Return the cost of tokens and images; None if nothing that was reported has a price.

    None also if tokens of one side were reported and only the other side has a price.
    """
    tokens_in, tokens_out = usage.input, usage.output
    cache_read, cache_write = usage.cache_read or 0, usage.cache_write or 0
    total_input = tokens_in or 0
    if usage.cache_exclusive or total_input < cache_read + cache_write:
        total_input += cache_read + cache_write  # the input does not include its cached tokens
    rates = tiers[-1][1]
    if len(tiers) > 1:
        rates = next((tier_rates for start, tier_rates in tiers if total_input > start), rates)
    rate_in, rate_out = rates.input, rates.output
    cost_of_images = images * rates.image if images and rates.image is not None else 0
    if (tokens_in is None or rate_in is None) and (tokens_out is None or rate_out is None):
        if rates.request is None and not cost_of_images:
            return None
    elif (tokens_in and rate_in is None) or (tokens_out and rate_out is None):
        return None  # half a cost would be wrong

    if cache_read or cache_write or usage.input_audio or usage.input_image:
        audio_cached = (
            min(usage.cache_read_audio or 0, cache_read) if rates.cache_read_audio is not None else 0
        )
        paid_in = _sum_of_parts(
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
        paid_out = _sum_of_parts(
            tokens_out or 0,
            rate_out,
            (usage.output_image or 0, rates.output_image),
            (usage.output_audio or 0, rates.output_audio),
            (usage.reasoning or 0, rates.reasoning),
        )
    else:
        paid_out = (tokens_out or 0) * (rate_out or 0)
    paid_out += cost_of_images
    extra = rates.request or 0
    if rates.search is not None and usage.searches:
        extra += usage.searches * rates.search
    return _new(Cost, (paid_in / DOLLAR, paid_out / DOLLAR, (paid_in + paid_out + extra) / DOLLAR))


_new = tuple.__new__  # `Cost(...)` takes twice as long


def _sum_of_parts(whole: int, rate: int | None, *parts: tuple[int, int | None]) -> int:
    """Return the cost of `whole` tokens, some of which have a rate of their own; excess parts are free."""
    left, cost = whole, 0
    for tokens, own_rate in parts:
        if own_rate is not None and tokens > 0:
            part = tokens if tokens < left else left  # noqa: FURB136  # a call to `min` takes longer
            cost += part * own_rate
            left -= part
    return cost + left * (rate or 0)


class PriceBook:
    """The unit prices of the built-in table and of the user's own file, which wins, and the cost of calls."""

    def __init__(self, own: Mapping[str, Rates] | None = None) -> None:
        # It takes a fifth of a second: not when this module is imported, and not in the first call.
        import genai_prices.data_snapshot

        self._snapshot = genai_prices.data_snapshot.get_snapshot
        self._listed_ids = frozenset(provider.id for provider in self._snapshot().providers)
        own = own or {}
        self._exact = {name.lower(): rates for name, rates in own.items() if not is_pattern(name)}
        self._patterns = [(name.lower(), rates) for name, rates in own.items() if is_pattern(name)]
        self._tiers = lru_cache(maxsize=2048)(self._look_up)

    def cost(self, call: ModelCall) -> Cost | None:
        """Return the cost of the call; None if its model has no price or its tokens are not reported."""
        details = call.details
        tier = details.get("service_tier") or call.parameters.get("service_tier")
        for model in (call.response_model, call.request_model):
            if model is not None:
                provider = call.provider
                if provider is None:
                    url = call.base_url
                else:  # few calls need the URL, so that it makes few entries of the cache
                    url = None if _PROVIDERS.get(provider, provider) in self._listed_ids else call.base_url
                tiers = self._tiers(provider, model, tier, call.start_ns // _HALF_HOUR_NS, url)
                if tiers:
                    images = 0 if call.error is not None else details.get("image_count") or 0
                    return cost_of(call.usage, tiers, images)
        return None

    def _look_up(
        self, provider: str | None, model: str, tier: str | None, half_hour: int, url: str | None
    ) -> Tiers:
        own = self._own([*_names(model)])
        if own is not None and not own.lacks:
            return ((-1, own),)
        provider = _server_of(model) or provider
        listed = () if provider in _SELF_HOSTED else self._listed_tiers(provider, model, tier, half_hour, url)
        if own is None:
            return listed
        return tuple((start, with_missing_side(own, rates)) for start, rates in listed) or ((-1, own),)

    def _listed_tiers(
        self, provider: str | None, model: str, tier: str | None, half_hour: int, url: str | None = None
    ) -> Tiers:
        moment = datetime.fromtimestamp(min(max(half_hour, 0), _LATEST) * 1800, timezone.utc)
        for name in _names(model):
            if (price := self._listed(provider, name, tier, moment, url)) is not None:
                return tiers_of(price)
        return ()

    def lists(self, name: str) -> bool:
        """Whether the built-in table has prices for the model, or for one that matches the pattern."""
        if not is_pattern(name):
            return bool(self._listed_tiers(None, name, None, _LATEST))
        pattern = name.lower()
        models = (model for provider in self._snapshot().providers for model in provider.models)
        return any(fnmatch.fnmatchcase(model.id.lower(), pattern) for model in models)

    def _listed(
        self, provider: str | None, model: str, tier: str | None, moment: datetime, url: str | None
    ) -> ModelPrice | None:
        snapshot = self._snapshot()
        provider_id = _PROVIDERS.get(provider or "", provider)
        known_id = provider_id if any(listed.id == provider_id for listed in snapshot.providers) else None
        if url is not None and "://" not in url:
            url = f"https://{url}"
        for address in dict.fromkeys((url, None)):
            try:
                listed_provider, listed_model = snapshot.find_provider_model(model, None, known_id, address)
                break
            except LookupError:
                continue
        else:
            return None
        # `genai-prices` falls back to another provider's model, for which only standard prices hold.
        is_own_model = any(listed_model is each for each in listed_provider.models)
        return listed_model.get_prices(moment, _context(tier) if is_own_model else None)

    def _own(self, names: Sequence[str]) -> Rates | None:
        for name in names:
            if (rates := self._exact.get(name)) is not None:
                return rates
        for name in names:
            for pattern, rates in self._patterns:
                if fnmatch.fnmatchcase(name, pattern):
                    return rates
        return None


_SELF_HOSTED = frozenset({"ollama", "vllm", "lmstudio", "sglang"})
"""Servers that people run themselves: a price of somebody else's for the same model is not theirs."""
_BEDROCK = re.compile(r"(?:^|/)(?:[a-z]{2,6}(?:-gov)?\.)?[a-z0-9]+\.[a-z][\w.-]*-v\d+(?::\d+\w*)?$")
_VERTEX = re.compile(r"(?:^|/)publishers/[^/]+/models/")


def _server_of(model: str) -> str | None:
    """Return the provider that the id of the model names: Bedrock's and Vertex AI's are like no others."""
    name = model.strip().lower()
    if _BEDROCK.search(name):
        return "bedrock"
    return "vertex" if _VERTEX.search(name) else None


def _context(tier: str | None) -> dict[str, str] | None:
    """Return the key by which `genai-prices` selects a price; providers report batches as a service tier."""
    if not tier:
        return None
    word = tier.strip().lower()
    return {"processing": "batch"} if word == "batch" else {"service_tier": word}


def is_pattern(name: str) -> bool:
    """Whether the name matches more than one model."""
    return any(sign in name for sign in "*?[")


def _names(model: str) -> Iterator[str]:
    """Yield the name, the name without path (`models/`, `publishers/google/models/`), and that undated."""
    name = model.strip().lower()
    tail = name.rpartition("/")[2]
    yield name
    if tail != name:
        yield tail
    if (undated := _DATED.sub("", tail)) != tail:
        yield undated
