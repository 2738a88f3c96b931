"""Calls whose input, output and total costs were worked out by hand.

Prices are those of the `genai-prices` data for 2 November 2026, read from it: US dollars for a million
tokens, and so millionths of a dollar for one. The sums are worked out on paper; `x` multiplies.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import pytest

from otel_posthog.conversion.pricing.cost import Cost, PriceBook
from otel_posthog.conversion.span_reader import read_call
from tests.support.spans import make_view

BOOK = PriceBook()

NAMES = {
    "in": "gen_ai.usage.input_tokens",
    "out": "gen_ai.usage.output_tokens",
    "read": "gen_ai.usage.cache_read.input_tokens",
    "written": "gen_ai.usage.cache_write.input_tokens",
    "audio read": "gen_ai.usage.audio.cache_read.input_tokens",
    "audio in": "gen_ai.usage.audio.input_tokens",
    "audio out": "gen_ai.usage.audio.output_tokens",
    "image in": "gen_ai.usage.image.input_tokens",
    "image out": "gen_ai.usage.image.output_tokens",
    "thought": "gen_ai.usage.reasoning.output_tokens",
    "searches": "posthog.web_search.count",
    "tier": "openai.response.service_tier",
}


class Row(NamedTuple):
    """A call, and its costs in millionths of a US dollar, each with the sum it comes from."""

    model: str
    provider: str
    reported: str
    """The tokens, and other reported values: `in 10, out 5, tier flex`."""
    paid_in: tuple[str, float]
    paid_out: tuple[str, float]
    total: tuple[str, float]


NOTHING = ("0", 0.0)

GPT_5_1 = [  # 1.25 in, 0.125 cached, 10 out; 10 dollars for 1000 searches
    ("in 1000, out 500", ("1000 x 1.25", 1250), ("500 x 10", 5000), ("1250 + 5000", 6250)),
    (
        "in 10000, read 8192, out 300",
        ("1808 x 1.25 + 8192 x 0.125", 3284),
        ("300 x 10", 3000),
        ("3284 + 3000", 6284),
    ),
    ("in 512, read 512, out 0", ("512 x 0.125", 64), NOTHING, ("64", 64)),
    ("in 200, out 1500, thought 1200", ("200 x 1.25", 250), ("1500 x 10", 15000), ("250 + 15000", 15250)),
    (
        "in 1000, out 500, searches 2",
        ("1000 x 1.25", 1250),
        ("500 x 10", 5000),
        ("1250 + 5000 + 2 x 10000", 26250),
    ),
    ("in 800, out 200, tier default", ("800 x 1.25", 1000), ("200 x 10", 2000), ("1000 + 2000", 3000)),
    # flex and batch: half of it; priority: twice
    ("in 1000, out 500, tier flex", ("1000 x 0.625", 625), ("500 x 5", 2500), ("625 + 2500", 3125)),
    ("in 1000, out 500, tier priority", ("1000 x 2.5", 2500), ("500 x 20", 10000), ("2500 + 10000", 12500)),
    (
        "in 1000, read 400, out 100, tier batch",
        ("600 x 0.625 + 400 x 0.0625", 400),
        ("100 x 5", 500),
        ("400 + 500", 900),
    ),
]
GPT_5_MINI = [  # 0.25 in, 0.025 cached, 2 out
    ("in 2000, out 1000", ("2000 x 0.25", 500), ("1000 x 2", 2000), ("500 + 2000", 2500)),
    (
        "in 3000, read 2048, out 100",
        ("952 x 0.25 + 2048 x 0.025", 289.2),
        ("100 x 2", 200),
        ("289.2 + 200", 489.2),
    ),
    ("in 7, out 640, thought 576", ("7 x 0.25", 1.75), ("640 x 2", 1280), ("1.75 + 1280", 1281.75)),
    ("in 4000, out 1000, tier flex", ("4000 x 0.125", 500), ("1000 x 1", 1000), ("500 + 1000", 1500)),
    ("in 1000, out 100, tier priority", ("1000 x 0.45", 450), ("100 x 3.6", 360), ("450 + 360", 810)),
    (
        "in 4000, read 1000, out 250, tier batch",
        ("3000 x 0.125 + 1000 x 0.0125", 387.5),
        ("250 x 1", 250),
        ("387.5 + 250", 637.5),
    ),
]
GEMINI_3_FLASH = [  # 0.5 in, 0.05 cached, 3 out; audio 1 in, 0.1 cached; 14 dollars for 1000 searches
    ("in 1000, out 400", ("1000 x 0.5", 500), ("400 x 3", 1200), ("500 + 1200", 1700)),
    (
        "in 5000, read 4096, out 100",
        ("904 x 0.5 + 4096 x 0.05", 656.8),
        ("100 x 3", 300),
        ("656.8 + 300", 956.8),
    ),
    (
        "in 2000, audio in 1500, out 50",
        ("500 x 0.5 + 1500 x 1", 1750),
        ("50 x 3", 150),
        ("1750 + 150", 1900),
    ),
    (
        "in 2000, audio in 1500, read 1000, audio read 600, out 10",
        ("100 x 0.5 + 900 x 1 + 400 x 0.05 + 600 x 0.1", 1030),
        ("10 x 3", 30),
        ("1030 + 30", 1060),
    ),
    ("in 100, out 900, thought 700", ("100 x 0.5", 50), ("900 x 3", 2700), ("50 + 2700", 2750)),
    (
        "in 100, out 100, searches 1",
        ("100 x 0.5", 50),
        ("100 x 3", 300),
        ("50 + 300 + 14000", 14350),
    ),
    # batch: half, but for what is cached
    (
        "in 1000, read 200, out 400, tier batch",
        ("800 x 0.25 + 200 x 0.05", 210),
        ("400 x 1.5", 600),
        ("210 + 600", 810),
    ),
]
GEMINI_3_IMAGE = [  # 2 in, 12 out, 120 for what is drawn; batch 1, 6, 60
    ("in 300, out 1120, image out 1120", ("300 x 2", 600), ("1120 x 120", 134400), ("600 + 134400", 135000)),
    (
        "in 1280, image in 1120, out 1720, image out 1120, thought 400",
        ("1280 x 2", 2560),
        ("600 x 12 + 1120 x 120", 141600),
        ("2560 + 141600", 144160),
    ),
    ("in 10, out 2000, image out 2000", ("10 x 2", 20), ("2000 x 120", 240000), ("20 + 240000", 240020)),
    (
        "in 500, out 2300, image out 2240, searches 1",
        ("500 x 2", 1000),
        ("60 x 12 + 2240 x 120", 269520),
        ("1000 + 269520 + 14000", 284520),
    ),
    (
        "in 300, out 1220, image out 1120, tier batch",
        ("300 x 1", 300),
        ("100 x 6 + 1120 x 60", 67800),
        ("300 + 67800", 68100),
    ),
]

ROWS = [
    *(Row("gpt-5.1", "openai", *row) for row in GPT_5_1),
    *(Row("gpt-5-mini", "openai", *row) for row in GPT_5_MINI),
    *(Row("gemini-3-flash-preview", "gcp.gemini", *row) for row in GEMINI_3_FLASH),
    *(Row("gemini-3-pro-image-preview", "gcp.gemini", *row) for row in GEMINI_3_IMAGE),
    # --- other names of a model, and other providers of it ---
    Row("gpt-5.1-2025-11-13", "openai", "in 4, out 1", ("4 x 1.25", 5), ("1 x 10", 10), ("5 + 10", 15)),
    Row(
        "openai/gpt-5.1",
        "openrouter",
        "in 1000, out 100",
        ("1000 x 1.25", 1250),
        ("100 x 10", 1000),
        ("1250 + 1000", 2250),
    ),
    Row(
        "gpt-4o",
        "azure.ai.openai",
        "in 1000, out 100",
        ("1000 x 2.5", 2500),
        ("100 x 10", 1000),
        ("2500 + 1000", 3500),
    ),
    Row(
        "publishers/google/models/gemini-3-flash-preview",
        "gcp.vertex_ai",
        "in 10, out 10",
        ("10 x 0.5", 5),
        ("10 x 3", 30),
        ("5 + 30", 35),
    ),
    # --- cached ---
    Row(  # 2.5, 1.25, 10
        "gpt-4o",
        "openai",
        "in 1000, read 600, out 100",
        ("400 x 2.5 + 600 x 1.25", 1750),
        ("100 x 10", 1000),
        ("1750 + 1000", 2750),
    ),
    Row(  # 2, 0.5, 8
        "gpt-4.1",
        "openai",
        "in 1000, read 500, out 50",
        ("500 x 2 + 500 x 0.5", 1250),
        ("50 x 8", 400),
        ("1250 + 400", 1650),
    ),
    Row(  # 15, 120; nothing cheaper for what is cached
        "gpt-5-pro",
        "openai",
        "in 1000, read 400, out 10",
        ("1000 x 15", 15000),
        ("10 x 120", 1200),
        ("15000 + 1200", 16200),
    ),
    Row(  # 3, 0.3 read, 3.75 written, 15
        "claude-sonnet-4-5",
        "anthropic",
        "in 10000, read 6000, written 1000, out 500",
        ("3000 x 3 + 6000 x 0.3 + 1000 x 3.75", 14550),
        ("500 x 15", 7500),
        ("14550 + 7500", 22050),
    ),
    Row(  # its batch: half of each
        "claude-sonnet-4-5",
        "anthropic",
        "in 10000, read 6000, written 1000, out 500, tier batch",
        ("3000 x 1.5 + 6000 x 0.15 + 1000 x 1.875", 7275),
        ("500 x 7.5", 3750),
        ("7275 + 3750", 11025),
    ),
    Row(  # 1, 0.1 read, 5; the cached tokens are beside the 100
        "claude-haiku-4-5",
        "anthropic",
        "in 100, read 5000, out 10",
        ("100 x 1 + 5000 x 0.1", 600),
        ("10 x 5", 50),
        ("600 + 50", 650),
    ),
    # --- reasoning ---
    Row(  # 2, 8: thoughts are output
        "o3",
        "openai",
        "in 100, out 2000, thought 1900",
        ("100 x 2", 200),
        ("2000 x 8", 16000),
        ("200 + 16000", 16200),
    ),
    Row(  # 2, 8, 3 for thoughts, 5 dollars for 1000 searches
        "sonar-deep-research",
        "perplexity",
        "in 100, out 1000, thought 600, searches 3",
        ("100 x 2", 200),
        ("400 x 8 + 600 x 3", 5000),
        ("200 + 5000 + 3 x 5000", 20200),
    ),
    # --- for each request: 12 dollars for 1000 ---
    Row(
        "sonar",
        "perplexity",
        "in 1000, out 500",
        ("1000 x 1", 1000),
        ("500 x 1", 500),
        ("1500 + 12000", 13500),
    ),
    # --- long contexts: all tokens at the higher price ---
    Row(
        "gpt-5.4",
        "openai",
        "in 272000, out 1000",
        ("272000 x 2.5", 680000),
        ("1000 x 15", 15000),
        ("680000 + 15000", 695000),
    ),
    Row(
        "gpt-5.4",
        "openai",
        "in 272001, out 1000",
        ("272001 x 5", 1360005),
        ("1000 x 22.5", 22500),
        ("1360005 + 22500", 1382505),
    ),
    Row(
        "gemini-2.5-pro",
        "gcp.gemini",
        "in 200000, out 100",
        ("200000 x 1.25", 250000),
        ("100 x 10", 1000),
        ("250000 + 1000", 251000),
    ),
    Row(
        "gemini-2.5-pro",
        "gcp.gemini",
        "in 300000, read 100000, out 1000",
        ("200000 x 2.5 + 100000 x 0.25", 525000),
        ("1000 x 15", 15000),
        ("525000 + 15000", 540000),
    ),
    Row(  # long, and in a batch
        "gemini-2.5-pro",
        "gcp.gemini",
        "in 300000, out 1000, tier batch",
        ("300000 x 1.25", 375000),
        ("1000 x 7.5", 7500),
        ("375000 + 7500", 382500),
    ),
    # --- audio ---
    Row(  # 2.5, 10; audio 32, 64
        "gpt-audio",
        "openai",
        "in 500, audio in 400, out 300, audio out 200",
        ("100 x 2.5 + 400 x 32", 13050),
        ("100 x 10 + 200 x 64", 13800),
        ("13050 + 13800", 26850),
    ),
    Row(  # 4, 16; audio 32, 64; cached 0.4, of either kind
        "gpt-realtime",
        "openai",
        "in 1000, audio in 600, read 300, audio read 200, out 100, audio out 80",
        ("300 x 4 + 400 x 32 + 100 x 0.4 + 200 x 0.4", 14120),
        ("20 x 16 + 80 x 64", 5440),
        ("14120 + 5440", 19560),
    ),
    Row(  # 6 for audio, 10
        "gpt-4o-transcribe",
        "openai",
        "in 1000, audio in 1000, out 50",
        ("1000 x 6", 6000),
        ("50 x 10", 500),
        ("6000 + 500", 6500),
    ),
    Row(  # 0.3 for audio, 0.4
        "gemini-2.5-flash-lite",
        "gcp.gemini",
        "in 1000, audio in 1000, out 100",
        ("1000 x 0.3", 300),
        ("100 x 0.4", 40),
        ("300 + 40", 340),
    ),
    # --- images ---
    Row(  # 5, 10 for images, 40
        "gpt-image-1",
        "openai",
        "in 300, image in 250, out 4160",
        ("50 x 5 + 250 x 10", 2750),
        ("4160 x 40", 166400),
        ("2750 + 166400", 169150),
    ),
    Row(  # 5, 8 for images; 10, 32 for images
        "gpt-image-1.5",
        "openai",
        "in 150, image in 50, out 1066, image out 1056",
        ("100 x 5 + 50 x 8", 900),
        ("10 x 10 + 1056 x 32", 33892),
        ("900 + 33892", 34792),
    ),
    # --- embeddings: nothing comes out ---
    Row("text-embedding-3-small", "openai", "in 8000", ("8000 x 0.02", 160), NOTHING, ("160", 160)),
    Row("text-embedding-3-large", "openai", "in 1000", ("1000 x 0.13", 130), NOTHING, ("130", 130)),
    Row("gemini-embedding-001", "gcp.gemini", "in 2000", ("2000 x 0.15", 300), NOTHING, ("300", 300)),
]


def worked_out(written: str) -> Fraction:
    """Return the exact value of a sum of products."""
    total = Fraction(0)
    for product in written.split("+"):
        factors = [Fraction(factor.strip()) for factor in product.split("x")]
        value = Fraction(1)
        for factor in factors:
            value *= factor
        total += value
    return total


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.model}: {row.reported}")
def test_a_call_costs_what_it_costs_on_paper(row: Row) -> None:
    tokens = dict(each.strip().rsplit(" ", 1) for each in row.reported.split(","))
    attributes = {NAMES[name]: value if name == "tier" else int(value) for name, value in tokens.items()}
    attributes |= {"gen_ai.request.model": row.model, "gen_ai.provider.name": row.provider}
    actual = BOOK.cost(read_call(make_view(only={"gen_ai.operation.name": "chat", **attributes})))
    expected = Cost(row.paid_in[1] / 1e6, row.paid_out[1] / 1e6, row.total[1] / 1e6)
    assert actual == pytest.approx(expected, rel=1e-15, abs=0)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.model}: {row.reported}")
def test_the_paper_is_right(row: Row) -> None:
    for written, figure in (row.paid_in, row.paid_out, row.total):
        assert float(worked_out(written)) == figure


def test_the_table_is_long_and_has_the_models_of_the_features() -> None:
    assert len({(row.model, row.reported) for row in ROWS}) >= 40
    assert {row.model for row in ROWS} >= {
        "gpt-5.1",
        "gpt-5-mini",
        "gemini-3-flash-preview",
        "gemini-3-pro-image-preview",
    }
