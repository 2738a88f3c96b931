from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.conversion.model_call import Usage
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.pricing.price_file import parse_prices
from otel_posthog.conversion.span_reader import read_call
from tests.support.spans import START, make_view

BOOK = PriceBook()


def cost(model: str, provider: str | None = "openai", **tokens: int) -> Any:
    attributes: dict[str, Any] = {
        f"gen_ai.usage.{name.replace('__', '.')}": count for name, count in tokens.items()
    }
    attributes["gen_ai.request.model"] = model
    attributes["gen_ai.operation.name"] = "chat"
    if provider is not None:
        attributes["gen_ai.provider.name"] = provider
    return BOOK.cost(read_call(make_view(only=attributes)))


# US dollars a million tokens, by the providers' price pages as of November 2026: gpt-5.1 1.25 in,
# 0.125 cached, 10 out; gpt-5-mini 0.25, 0.025, 2; gemini-3-flash-preview 0.50, 0.05, 3;
# gemini-3-pro-image-preview 2, images out 120, text out 12; gpt-4o 2.50, 1.25, 10.
MILLION = {"input_tokens": 1_000_000, "output_tokens": 100_000}
CACHED = {**MILLION, "cache_read__input_tokens": 200_000}
PICTURE = {"input_tokens": 1280, "output_tokens": 2000, "image__output_tokens": 1120}
THOUGHT = {"input_tokens": 0, "output_tokens": 1000, "reasoning__output_tokens": 900}


@pytest.mark.parametrize(
    ("model", "provider", "tokens", "total"),
    [
        ("gpt-5.1", "openai", MILLION, 2.25),
        ("gpt-5.1", "openai", CACHED, 2.025),
        ("gpt-5.1", "openai", THOUGHT, 0.01),
        ("gpt-5-mini", "openai", CACHED, 0.405),
        ("gpt-4o", "openai", CACHED, 3.25),
        ("gemini-3-flash-preview", "gcp.gemini", CACHED, 0.71),
        ("gemini-3-pro-image-preview", "gemini", PICTURE, 0.14752),
        ("text-embedding-3-small", "openai", {"input_tokens": 1_000_000}, 0.02),
    ],
)
def test_a_call_costs_what_the_price_list_says(
    model: str, provider: str, tokens: dict[str, int], total: float
) -> None:
    actual = cost(model, provider, **tokens)
    assert actual.total == pytest.approx(total, rel=1e-9)
    assert actual.total == pytest.approx(actual.input + actual.output)


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("gpt-5.1-2025-11-13", "openai"),
        ("gpt-5.1-2031-01-01", "openai"),
        ("openai/gpt-5.1", None),
        ("openai/gpt-5.1", "openrouter-like-nobody-knows"),
        ("GPT-5.1", "openai"),
        ("gpt-5.1", None),
    ],
)
def test_a_model_is_found_by_its_other_names(name: str, provider: str | None) -> None:
    assert cost(name, provider, input_tokens=1_000_000, output_tokens=0).total == 1.25


@pytest.mark.parametrize(
    "name", ["models/gemini-3-flash-preview", "publishers/google/models/gemini-3-flash-preview"]
)
def test_a_gemini_model_is_found_below_its_path(name: str) -> None:
    assert cost(name, "gcp.vertex_ai", input_tokens=1_000_000, output_tokens=0).total == 0.5


@pytest.mark.parametrize("name", ["nobody-knows-this", "", "/", "💥", "a" * 10_000])
def test_an_unknown_model_has_no_cost_and_no_error(name: str) -> None:
    assert cost(name, input_tokens=10, output_tokens=10) is None


def test_unreported_tokens_cost_nothing_known() -> None:
    assert cost("gpt-5.1") is None


def test_a_flex_call_costs_half() -> None:
    attributes = {"gen_ai.usage.input_tokens": 1_000_000, "gen_ai.usage.output_tokens": 0}
    flex = read_call(make_view({**attributes, "openai.response.service_tier": "flex"}))
    assert BOOK.cost(flex).total == 0.625  # type: ignore[union-attr]


def test_cache_tokens_beyond_the_input_were_not_counted_in_it() -> None:
    actual = cost("gpt-5.1", input_tokens=1000, output_tokens=0, cache_read__input_tokens=10_000)
    assert actual.total == pytest.approx((1000 * 1.25 + 10_000 * 0.125) / 1e6)


MODELS = [(provider, model) for provider in get_snapshot().providers for model in provider.models]


@given(
    place=st.integers(0, len(MODELS) - 1),
    text=st.integers(0, 300_000),
    cached=st.integers(0, 300_000),
    written=st.integers(0, 1000),
    audio=st.integers(0, 1000),
    plain=st.integers(0, 9000),
    image=st.integers(0, 2000),
    reasoning=st.integers(0, 500),
    context=st.sampled_from(
        [None, {"processing": "batch"}, *({"service_tier": tier} for tier in ("flex", "priority", "fast"))]
    ),
)
def test_the_arithmetic_is_that_of_genai_prices(
    place: int,
    text: int,
    cached: int,
    written: int,
    audio: int,
    plain: int,
    image: int,
    reasoning: int,
    context: dict[str, str] | None,
) -> None:
    from otel_posthog.conversion.pricing.cost import cost_of
    from otel_posthog.conversion.pricing.rates import tiers_of

    _, model = MODELS[place]
    price = model.get_prices(datetime.fromtimestamp(START / 1e9, timezone.utc), context)
    ours = (
        cost_of(
            Usage(
                input=text + cached + written + audio,
                output=plain + image + reasoning,
                cache_read=cached,
                cache_write=written,
                input_audio=audio,
                output_image=image,
                reasoning=reasoning,
            ),
            tiers_of(price),
        )
        if tiers_of(price)
        else None
    )
    try:
        theirs = price.calc_price(
            TheirUsage(
                input_tokens=text + cached + written + audio,
                output_tokens=plain + image + reasoning,
                cache_read_tokens=cached,
                cache_write_tokens=written,
                input_audio_tokens=audio,
                cache_audio_read_tokens=0,
                cache_audio_write_tokens=0,
                output_image_tokens=image,
                output_reasoning_tokens=reasoning,
            )
        )
    except ValueError:
        return  # it asks for counts that nobody reports
    if ours is not None:
        assert ours.total == pytest.approx(float(theirs["total_price"]), rel=1e-9, abs=1e-11)


@pytest.mark.parametrize(
    ("model", "provider", "tier", "total"),
    [
        ("gpt-4o", "openai", "batch", 1.25),
        ("gpt-4o", "openai", " Batch", 1.25),
        ("gpt-4o", "openai", "auto", 2.5),
        ("gpt-4o", "azure.ai.openai", "batch", 2.5),  # prices of another provider are its standard ones
        ("claude-haiku-4-5", "anthropic", "standard", 1.0),
        ("claude-haiku-4-5", "anthropic", "batch", 0.5),
    ],
)
def test_a_tier_has_the_prices_that_the_data_has_for_it(
    model: str, provider: str, tier: str, total: float
) -> None:
    attributes = {
        "gen_ai.request.model": model,
        "gen_ai.provider.name": provider,
        "gen_ai.usage.input_tokens": 1_000_000,
        "openai.response.service_tier": tier,
    }
    actual = BOOK.cost(read_call(make_view(attributes)))
    assert actual is not None
    assert actual.total == total


@pytest.mark.parametrize(
    ("attributes", "costs"),
    [
        ({"posthog.image.count": 3}, (0.0, 0.12, 0.12)),
        ({"posthog.image.count": 2, "gen_ai.usage.input_tokens": 1000}, (0.005, 0.08, 0.085)),
        ({"posthog.image.count": 2, "error.type": "x"}, None),
        ({}, None),
    ],
)
def test_an_image_may_have_a_price_of_its_own(
    attributes: dict[str, Any], costs: tuple[float, ...] | None
) -> None:
    book = PriceBook(parse_prices({"models": {"dall-e-*": {"input": 5, "image": 0.04}}}))
    status = "ERROR" if "error.type" in attributes else "UNSET"
    view = make_view({**attributes, "gen_ai.request.model": "dall-e-3"}, status=status)
    assert book.cost(read_call(view)) == costs


def test_an_exact_name_wins_over_a_pattern_also_without_its_path() -> None:
    models = {"openai/*": {"input": 1}, "gpt-5.1": {"input": 7}}
    call = read_call(
        make_view({"gen_ai.request.model": "openai/gpt-5.1", "gen_ai.usage.input_tokens": 1_000_000})
    )
    actual = PriceBook(parse_prices({"models": models})).cost(call)
    assert actual is not None
    assert actual.total == 7.0


@pytest.mark.parametrize(
    ("own", "model", "expected"),
    [
        # gpt-5.1: 1.25 and 10 dollars a million, 0.125 for what is cached
        ({"input": 2}, "gpt-5.1", (2.0, 10.0, 12.0)),
        ({"output": 4}, "gpt-5.1", (1.25, 4.0, 5.25)),
        ({"output": 4}, "openai/gpt-5.1-2025-11-13", (1.25, 4.0, 5.25)),
        ({"cache_read": 3}, "gpt-5.1", (1.25, 10.0, 11.25)),
        ({"input": 2, "output": 4}, "gpt-5.1", (2.0, 4.0, 6.0)),
        ({"request": 3}, "gpt-5.1", (0.0, 0.0, 3.0)),
        ({"input": 2}, "mine", None),
    ],
)
def test_a_side_without_an_own_price_has_the_one_of_the_table(
    own: dict[str, float], model: str, expected: tuple[float, float, float] | None
) -> None:
    book = PriceBook(parse_prices({"models": {"gpt-5.1": own, "mine": own}}))
    usage = {"gen_ai.usage.input_tokens": 1_000_000, "gen_ai.usage.output_tokens": 1_000_000}
    view = make_view({"gen_ai.request.model": model, "gen_ai.response.model": model, **usage})
    assert book.cost(read_call(view)) == expected


def test_a_side_of_the_table_has_all_its_prices_and_own_ones_first() -> None:
    book = PriceBook(parse_prices({"models": {"gpt-5.1": {"output": 4}, "gpt-5-mini": {"cache_read": 3}}}))
    usage = {"gen_ai.usage.input_tokens": 2_000_000, "gen_ai.usage.cache_read.input_tokens": 1_000_000}
    for model, paid in (("gpt-5.1", 1.25 + 0.125), ("gpt-5-mini", 0.25 + 3.0)):
        actual = book.cost(read_call(make_view({"gen_ai.request.model": model, **usage})))
        assert actual is not None
        assert actual.input == paid


def test_a_table_lists_models_by_name_and_by_pattern() -> None:
    book = PriceBook()
    names = ("gpt-5.1", "GPT-5*", "mine", "mine*")
    assert [book.lists(name) for name in names] == [True, True, False, False]


def test_costs_are_exact_although_sums_of_floats_are_not() -> None:
    models = {"m": {"input": 0.1, "output": 0.2}}
    view = make_view(
        {
            "gen_ai.request.model": "m",
            "gen_ai.usage.input_tokens": 1_000_000,
            "gen_ai.usage.output_tokens": 1_000_000,
        }
    )
    assert PriceBook(parse_prices({"models": models})).cost(read_call(view)) == (0.1, 0.2, 0.3)


OWN = {
    "models": {
        "my-*": {"input": 1, "output": 2, "cache_read": 0.5},
        "my-best": {"input": 10, "output": 20, "request": 0.01},
    }
}


@pytest.mark.parametrize(
    ("model", "total"),
    [("my-small", 0.003), ("my-best", 0.04), ("vendor/my-small", 0.003), ("gpt-5.1", 0.01125)],
)
def test_own_prices_win_and_exact_names_before_patterns(model: str, total: float) -> None:
    attributes = {
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 1000,
    }
    actual = PriceBook(parse_prices(OWN)).cost(read_call(make_view(attributes)))
    assert actual is not None
    assert actual.total == pytest.approx(total)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "models"),
        ({}, "models"),
        ({"models": {}}, "models"),
        ({"models": {"m": 5}}, "'m'"),
        ({"models": {"m": {}}}, "'m'"),
        ({"models": {"m": {"input": "1"}}}, "'input'"),
        ({"models": {"m": {"input": -1}}}, "'input'"),
        ({"models": {"m": {"imput": 1}}}, "'imput'"),
    ],
)
def test_wrong_prices_are_refused_with_the_place(content: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_prices(content)
