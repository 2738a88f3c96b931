"""A dialect stands in every place where one is declared; the name of a place that lacks it is printed."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
import yaml

from otel_posthog.conversion.dialects import DIALECTS
from otel_posthog.conversion.spans.genai_detection import SIGNATURES
from tests.support.paths import ROOT
from tests.support.spans import RECORDED, recorded

MODULES = {path.stem for path in (ROOT / "otel_posthog" / "conversion" / "dialects").glob("[!_]*.py")}
LISTED = {dialect.name for dialect in DIALECTS}
NAMES = sorted(MODULES | LISTED | set(SIGNATURES))


def filtered_names() -> list[re.Pattern[str]]:
    """Return the patterns of attribute names that the Collector's filter lets pass."""
    config = yaml.safe_load((ROOT / "collector-config" / "filter-genai.yaml").read_text())
    [condition] = config["processors"]["filter/genai"]["trace_conditions"]
    patterns = re.findall(r'IsMatch\(String\(Keys\(span\.attributes\)\),\s*"((?:[^"\\]|\\.)*)"\)', condition)
    return [re.compile(re.sub(r'\\(["\\])', r"\1", pattern)) for pattern in patterns]


def passing_the_filter() -> set[str]:
    """Return the dialects whose every marker passes the Collector's filter."""
    patterns = filtered_names()
    return {
        name
        for name, signature in SIGNATURES.items()
        if all(any(each.search(f'["{marker}"]') for each in patterns) for marker in signature.markers)
    }


def recorded_dialects() -> set[str]:
    """Return the dialects of which a span was recorded."""
    spans = [
        span for path in RECORDED.glob("*.jsonl") for line in recorded(path.stem) for span in line["spans"]
    ]
    names = {name for span in spans for name in span["attributes"]}
    return {name for name, signature in SIGNATURES.items() if not signature.markers.isdisjoint(names)}


PLACES: Mapping[str, set[str]] = {
    "a module in otel_posthog/conversion/dialects/": MODULES,
    "DIALECTS in otel_posthog/conversion/dialects/__init__.py": LISTED,
    "SIGNATURES in otel_posthog/conversion/spans/genai_detection.py": set(SIGNATURES),
    "markers that pass collector-config/filter-genai.yaml": passing_the_filter(),
    "spans in tests/golden/recorded/": recorded_dialects(),
    "a section of docs/dialects.md (UPDATE_GOLDEN=1 make test)": {
        name
        for name, signature in SIGNATURES.items()
        if f"## {signature.title}\n" in (ROOT / "docs" / "dialects.md").read_text(encoding="utf-8")
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_a_dialect_is_in_every_place(name: str) -> None:
    lacking = [place for place, names in PLACES.items() if name not in names]
    assert lacking == [], f"the dialect {name!r} is not yet in: " + "; ".join(lacking)


def test_the_filter_keeps_no_span_of_a_web_server() -> None:
    assert not any(each.search('["http.request.method"]') for each in filtered_names())
