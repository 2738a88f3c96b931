"""The command in a message about a missing part installs its packages, from any index."""

from __future__ import annotations

import re

import pytest

from otel_posthog.runtime.install_hint import install_hint
from tests.support.paths import ROOT


@pytest.mark.parametrize(
    ("extra", "packages"),
    [
        ("zstd", ["zstandard"]),
        ("kafka", ["confluent-kafka", "opentelemetry-exporter-prometheus"]),
        ("gemini", ["google-genai", "opentelemetry-instrumentation"]),
    ],
)
def test_a_hint_names_the_packages_of_an_extra(extra: str, packages: list[str]) -> None:
    assert re.findall(r"'([a-z-]+)[^']*'", install_hint(extra)) == packages


def test_a_package_of_two_extras_is_named_once() -> None:
    hint = install_hint("openai", "gemini")
    assert hint.count("'opentelemetry-instrumentation>") == 1
    assert "'openai" in hint
    assert "'google-genai" in hint


def test_no_message_and_no_page_asks_an_index_for_this_package() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("collector-config/*")]
    code = [*ROOT.glob("otel_posthog/**/*.py"), *ROOT.glob("instrumentors/**/*.py")]
    asking = re.compile(r"pip install\b[^\n`]*\botel-posthog\b")
    files = [file for file in [*pages, *code] if file.is_file() and asking.search(file.read_text())]
    assert files == []
