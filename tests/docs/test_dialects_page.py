"""The page about dialects is that of the code, and what a test can try of it holds."""

from __future__ import annotations

import os

import pytest

from otel_posthog.conversion.dialects import DIALECTS
from otel_posthog.conversion.readers.rule_table import Dialect
from tests.support.dialects import becomes, dialects_tables, names_of, recorded_scopes
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
    assert tables == expected, "UPDATE_GOLDEN=1 make test writes the tables of docs/dialects.md anew"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: str(dialect.name))
def test_every_attribute_that_a_dialect_reads_shows_on_an_event(dialect: Dialect) -> None:
    assert [name for name in names_of(dialect) if not becomes(dialect, name)] == []


def test_every_dialect_has_recordings() -> None:
    assert {
        "ai",
        "gen_ai",
        "pydantic-ai",
        "langfuse-sdk",
        "langsmith",
        "gcp.vertex.agent",
        "litellm",
    } <= {*recorded_scopes()}
