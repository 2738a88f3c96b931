"""The page about dialects is that of the code, and what a test can try of it holds."""

from __future__ import annotations

import os

import pytest

from otel_posthog.conversion.readers.rule_table import Dialect
from otel_posthog.conversion.span_reader import DIALECTS
from tests.conversion.test_recorded import NAMES, lines
from tests.support.dialects import TITLES, becomes, dialects_tables, names_of
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "dialects.md"
MARK = "<!-- tables: written from the dialects by UPDATE_GOLDEN=1 make test -->\n\n"


def test_the_page_is_that_of_the_code() -> None:
    introduction, mark, tables = PAGE.read_text(encoding="utf-8").partition(MARK)
    expected = dialects_tables()
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(introduction + mark + expected, encoding="utf-8")
        tables = expected
    assert mark
    assert tables == expected


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: str(dialect.name))
def test_every_attribute_that_a_dialect_reads_shows_on_an_event(dialect: Dialect) -> None:
    assert [name for name in names_of(dialect) if not becomes(dialect, name)] == []


def test_every_dialect_has_recordings_and_a_title() -> None:
    assert {dialect.name for dialect in DIALECTS} == set(TITLES)
    scopes = {span["scope"] for name in NAMES for line in lines(name) for span in line["spans"]}
    assert {
        "ai",
        "gen_ai",
        "pydantic-ai",
        "langfuse-sdk",
        "langsmith",
        "gcp.vertex.agent",
        "litellm",
    } <= scopes
