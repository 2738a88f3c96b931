"""Price files in TOML and JSON hold the same prices, and each mistake is reported with its line."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.conversion.pricing.price_file import (
    MAX_REPORTED,
    parse_prices,
    read_prices,
    read_prices_and_mistakes,
)

TOML = """
# what our contract says
[models."my-*"]
input = 1
output = 2.5

[models."gpt-5.1"]
input = 1.1
cache_read = 0.1
output = 9
request = 0.001

[models.drawn]
image = 0.04
"""
INLINE = """
models.drawn.image = 0.04
[models]
"my-*" = { input = 1, output = 2.5 }
"gpt-5.1" = { input = 1.1, cache_read = 0.1, output = 9, request = 0.001 }
"""
JSON = """
{
  "models": {
    "my-*": {"input": 1, "output": 2.5},
    "gpt-5.1": {"input": 1.1, "cache_read": 0.1, "output": 9, "request": 0.001},
    "drawn": {"image": 0.04}
  }
}
"""


@pytest.mark.parametrize("text", [TOML, INLINE.replace("models.drawn.image", "# "), "\ufeff" + TOML])
def test_toml_is_read_in_any_of_its_forms(text: str) -> None:
    prices = read_prices(text, toml=True)
    assert prices.items() <= read_prices(JSON, toml=False).items()
    assert {"my-*", "gpt-5.1"} <= {*prices}


def test_json_with_a_byte_order_mark_is_json() -> None:
    assert read_prices("\ufeff" + JSON, toml=False) == read_prices(JSON, toml=False)


WRONG_TOML: list[tuple[str, str]] = [
    (
        "[models.m]\ninput = 1\nimput = 2",
        "line 3: model 'm': unknown price 'imput'; known prices are: cache_read",
    ),
    ("[models.m]\ninput = 1\n\noutput = '2'", "line 4: model 'm': the price 'output' must be a number"),
    ("[models.m]\ninput = -1", "line 2: model 'm': the price 'input' must be a number, zero or more"),
    ("[models.m]\ninput = true", "line 2: model 'm': the price 'input' must be a number"),
    ("[models.m]\ninput = nan", "line 2: model 'm': the price 'input' must be a number"),
    ("[models.m]\ninput = [\n1,\n]", "model 'm': the price 'input' must be a number"),
    ("[models]\na.input = 1\nb.input = 1e99", "line 3: model 'b': the price 'input'"),
    ("[models]\na = {input = 1}\nb = {}", "line 3: model 'b': expected prices such as input = 1.25"),
    ("[models]\n# m\nm = 5", "line 3: model 'm': expected prices such as input = 1.25"),
    ("[models.input]\ninput = 1\n[models.x]\ninput = 'free'", "line 4: model 'x': the price 'input'"),
    ("[models.m]\ninput = 1\n[model.n]\ninput = 1", "line 3: unknown key 'model'"),
    ("[models.m]\ninput = 1\ninput = 2", "line 3: input is already defined above"),
    ("[models.m]\ninput = 1\n[models.m]\noutput = 2", "line 3: [models.m] is already defined above"),
    ("[models.gpt-5.1]\ninput = 1", "line 1: model 'gpt-5': quote a name with dots in TOML: [mod"),
    (
        "[models]\na.b.c.input = 1",
        "line 2: model 'a': quote a name with dots in TOML: [models.\"a.b.c\"]",
    ),
    ("\n[models.my-*]\ninput = 1", 'line 2: quote such a name: [models."my-*"]'),
    (
        "[models.m]\ninput = 1e-10",
        "line 2: model 'm': the price 'input' is below the smallest one, 1e-9 US dollars",
    ),
    ("[models.m]\nimage = 1e-16", "line 2: model 'm': the price 'image' is below the smallest one, 1e-15 US"),
    ("[models.m]\ninput = ", "line 2"),
    ("[models]", 'expected a table "models" with at least one model'),
    ("", 'expected a table "models" with at least one model'),
]
WRONG_JSON: list[tuple[str, str]] = [
    ('{"models": {\n"m": {"input": 1,\n"imput": 2}}}', "line 3: model 'm': unknown price 'imput'"),
    ('{"models": {\n"m": {"input": "1"}}}', "line 2: model 'm': the price 'input' must be a number"),
    ('{"models": {\n"m": {"input": NaN}}}', "line 2: model 'm': the price 'input' must be a number"),
    ('{"models": {"a": {"input": 1},\n\n"b": []}}', "line 3: model 'b': expected prices such as"),
    ('{"models":\n{"a": {"input": 1},\n"a": {"input": 2}}}', "line 3: 'a' is already defined in line 2"),
    ('{"models": {"a":\n{"input": 1,\n"input": 2}}}', "line 3: 'input' is already defined in line 2"),
    ('\n{"models": {"a": {"input": 1}},\n"prices": {}}', "line 3: unknown key 'prices'"),
    ('{"models": {"a": {"input": 1}\n"b": {}}}', "line 2 column 1"),
    ("[]", 'expected a table "models" with at least one model'),
    ("{}", 'expected a table "models" with at least one model'),
    ("", "line 1 column 1"),
    ("[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG_TOML)
def test_a_mistake_in_toml_is_reported_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is compared
        read_prices(text, toml=True)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(("text", "sentence"), WRONG_JSON)
def test_a_mistake_in_json_is_reported_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is compared
        read_prices(text, toml=False)
    assert sentence in str(caught.value)


def test_all_mistakes_are_reported_and_valid_prices_are_returned() -> None:
    text = "[models.a]\ninput = 1\noutput = 'x'\nimput = 2\n[models.b]\ninput = 3\n[other]\n"
    prices, mistakes = read_prices_and_mistakes(text, toml=True)
    assert prices["b"] == read_prices("[models.b]\ninput = 3", toml=True)["b"]
    assert [says[:6] for says in mistakes] == ["line 7", "line 3", "line 4"]


def test_only_the_first_of_very_many_mistakes_are_reported() -> None:
    text = "[models.a]\n" + "".join(f"x{number} = 1\n" for number in range(50))
    assert len(read_prices_and_mistakes(text, toml=True)[1]) == MAX_REPORTED


NAMES = st.text(max_size=8) | st.sampled_from(["models", "m", "input", "output", "image"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)
FILES = st.dictionaries(NAMES, VALUES, max_size=3) | st.fixed_dictionaries(
    {"models": st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=4), max_size=4)}
)


@given(FILES, st.sampled_from([None, 0, 2]))
def test_any_json_is_read_or_rejected_like_its_content(content: Any, indent: int | None) -> None:
    text = json.dumps(content, indent=indent)
    try:
        expected: Any = parse_prices(json.loads(text))
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error)) + r"\Z"):
            read_prices(text, toml=False)
    else:
        assert read_prices(text, toml=False) == expected


@given(st.text() | st.text(alphabet='[]{}"=.models\n 1'), st.booleans())
def test_any_text_is_read_or_rejected(text: str, toml: bool) -> None:
    with contextlib.suppress(ValueError):
        assert read_prices(text, toml=toml)
