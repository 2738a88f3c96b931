"""The pages: short, in order, with links that lead somewhere and blocks that are run."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, README, Block, blocks, project
from tests.docs.options_table import PAGE, with_options_table
from tests.support.paths import ROOT

MOST_WORDS = 700
LANGUAGES = {"python", "bash", "json", "yaml", "toml", "sql", "text"}
LINKED = (*PAGES, ROOT / "CHANGELOG.md", ROOT / "collector-config" / "README.md")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as they are made of their text."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        "".join(
            each
            for each in heading.lower().replace(" ", "-")
            if each in "-_" or unicodedata.category(each)[0] in "LN"
        )
        for heading in headings
    }


def test_the_readme_has_at_most_700_words() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= MOST_WORDS


def test_the_readme_states_the_versions_that_are_supported() -> None:
    text = README.read_text(encoding="utf-8")
    extras = project()["optional-dependencies"]
    required = project()["dependencies"] + extras["openai"] + extras["gemini"]
    for package in ("openai", "google-genai", "posthog", "opentelemetry-sdk"):
        [requirement] = {each for each in required if re.fullmatch(rf"{package}[<>=].*", each)}
        assert f"`{requirement}`" in text
    versions = [each for each in project()["classifiers"] if re.search(r":: 3\.\d+$", each)]
    assert f"Python {versions[0].split()[-1]} to {versions[-1].split()[-1]}" in text


def test_the_options_table_is_that_of_the_code() -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(with_options_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    assert text == with_options_table(text)


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.place)
def test_a_block_is_in_a_language_whose_blocks_are_run(block: Block) -> None:
    assert block.language in LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_is_of_a_block_that_is_run(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page=page))
    assert text.count("<!-- test:") == sum(bool(block.expected) for block in blocks(page=page))


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_local_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_a_page_is_reached_from_the_readme_or_a_page_beside_it(page: Path) -> None:
    assert any(
        page.name in re.findall(r"([\w.-]+\.md)", other.read_text(encoding="utf-8"))
        for other in PAGES
        if other != page
    )


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_sentence_begins_with_a_word_that_hides_who_acts(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    hiding = re.findall(r"(?:^|[.!?:] |^[-*|] |\*\* )((?:What|Whose|So long|Of) [^.\n]*)", text, re.MULTILINE)
    assert hiding == []
