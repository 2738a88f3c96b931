"""The page about dialects is that of the code, and what a test can try of it holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_posthog.conversion.readers.rule_table import Dialect
from otel_posthog.conversion.span_reader import DIALECTS
from tests.conversion.test_recorded import NAMES, lines
from tests.support.dialects import TITLES, becomes, dialects_page, names_of

PAGE = Path(__file__).parent.parent / "docs" / "dialects.md"


def test_the_page_is_that_of_the_code() -> None:
    page = dialects_page()
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page


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
