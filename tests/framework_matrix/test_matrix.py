"""The cells of the matrix that are right, as a guard: run where the environments may be built.

`OTEL_POSTHOG_MATRIX=1` runs them all, names of frameworks run theirs; `make frameworks` runs the matrix.
"""

from __future__ import annotations

import os

import pytest

from tests.framework_matrix.catalogue import FRAMEWORKS
from tests.framework_matrix.checker import check
from tests.framework_matrix.environments import prepare
from tests.framework_matrix.run import Cell, run

# Framework, way, slow. A cell comes here when it is mended.
RIGHT = [
    ("langchain", "alone", False),
    ("langchain", "alone", True),
    ("openai_agents", "alone", True),
    ("openai_agents", "OpenTelemetry", True),
    ("pydantic_ai", "alone", True),
    ("haystack", "alone", True),
    ("instructor", "OpenInference", True),
]
_CHOSEN = os.environ.get("OTEL_POSTHOG_MATRIX", "").split()


@pytest.mark.skipif(
    not _CHOSEN, reason="left out: the matrix of real frameworks, which OTEL_POSTHOG_MATRIX=1 runs"
)
@pytest.mark.parametrize(("name", "way_name", "slow"), RIGHT)
def test_a_cell_that_is_right_stays_right(name: str, way_name: str, slow: bool) -> None:
    if _CHOSEN != ["1"] and name not in _CHOSEN:
        pytest.skip("not chosen")
    framework = next(each for each in FRAMEWORKS if each.name == name)
    way = next(each for each in framework.ways if each.name == way_name)
    place = prepare(framework)
    known = run(Cell(framework, way), place, bare=True).stderr if framework.language == "python" else ()
    assert [str(fault) for fault in check(run(Cell(framework, way, slow), place, known_stderr=known))] == []
