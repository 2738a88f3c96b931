"""The page and the catalogue: what the table shows, and that each row has its files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.framework_matrix.catalogue import FRAMEWORKS, HERE, Framework
from tests.framework_matrix.checker import Fault
from tests.framework_matrix.page import Row, page
from tests.framework_matrix.run import new_lines

MISSING, TOKENS = Fault("a request has no generation", "chat"), Fault("tokens are wrong", "stream")


def test_a_row_has_its_figures_and_the_most_frequent_fault_first() -> None:
    row = Row("LangChain", "1.5.2", "alone", True, 31, 30, [TOKENS, MISSING, MISSING])
    assert str(row) == (
        "| LangChain | 1.5.2 | alone | slow | 31 | 30 |"
        " a request has no generation (2); tokens are wrong (1) |"
    )


def test_the_page_counts_rows_without_a_fault_and_tells_what_is_not_run() -> None:
    rows = [
        Row("LiteLLM", "1", "alone", False, 16, 16),
        Row("LiteLLM", "1", "built in", False, 18, 17, [MISSING]),
        Row("MCP", "2", "OpenLLMetry", False, 0, 0, does_not_load="it patches what is gone"),
    ]
    text = page(rows)
    assert "1 of 2 rows are without a fault." in text
    assert "- LiteLLM, alone: `responses`, `responses_stream`" in text
    assert "cannot be tried: it patches what is gone" in text


def test_a_part_that_is_run_again_replaces_its_rows_and_keeps_the_others() -> None:
    before = page([Row("LiteLLM", "1", "alone", slow, 16, 15, [MISSING]) for slow in (False, True)])
    after = page([Row("LiteLLM", "2", "alone", False, 16, 16)], before)
    assert "| LiteLLM | 2 | alone | fast | 16 | 16 | none |" in after
    assert "| LiteLLM | 1 | alone | slow | 16 | 15 | a request has no generation (1) |" in after
    assert "1 of 2 rows are without a fault." in after


def test_only_lines_of_stderr_that_come_with_the_product_are_its_own() -> None:
    bare = ["12:00:01 WARNING: 3 tasks at 0x7f00", "Traceback (most recent call last):"]
    ours = ["13:59:59 WARNING: 4 tasks at 0x8a11", bare[1], "  File x", "A span ended late"]
    assert new_lines("\n".join(ours), bare) == ["A span ended late"]


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda each: each.name)
def test_each_framework_has_a_program_and_its_versions(framework: Framework) -> None:
    assert framework.program.exists()
    assert framework.language == "node" or framework.constraints.exists()
    assert len({way.name for way in framework.ways}) == len(framework.ways)


@pytest.mark.parametrize("file", sorted((HERE / "constraints").iterdir()), ids=lambda file: file.stem)
def test_constraints_are_names_and_versions_and_name_no_place(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert lines
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)
