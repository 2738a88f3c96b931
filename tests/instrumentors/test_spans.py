"""The attributes that both instrumentors set on spans, and when content is among them."""

from __future__ import annotations

from typing import Any

import pytest

from instrumentors.common.call_span import CAPTURE_CONTENT, captures_content, encodable, sanitized
from otel_posthog.config.resolve import resolve


@pytest.mark.parametrize(
    "word",
    [
        *("", " ", "true", "1", "on", "SPAN_ONLY", "event_only", "span_and_event"),
        *("false", "off", "NO_CONTENT", "none", "disabled", "flase", "2"),
    ],
)
def test_variable_for_content_is_read_as_the_exporter_reads_it(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CAPTURE_CONTENT, word)
    exported = resolve({}, {CAPTURE_CONTENT: word}).capture_content
    assert captures_content(None) is exported


@pytest.mark.parametrize("word", ["none", "disabled", "flase"])
def test_unknown_word_captures_no_content(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPTURE_CONTENT, word)
    assert captures_content(None) is False
    assert captures_content(True) is True


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("plain", "plain"),
        ("größer 😀", "größer 😀"),
        ("half \ud83d", "half \ufffd"),
        ("two halves \ud83d\ude00", "two halves 😀"),
        (["a", "\ude00"], ["a", "\ufffd"]),
        (7, 7),
    ],
)
def test_text_is_made_fit_for_utf8(text: Any, encoded: Any) -> None:
    assert encodable(text) == encoded


@pytest.mark.parametrize(
    ("status", "kept"),
    [(100, True), (503, True), (599, True), (99, False), (1011, False), ("503", False), (True, False)],
)
def test_status_is_one_of_http(status: Any, kept: bool) -> None:
    attributes = sanitized({"posthog.http.status": status}, content=True)
    assert attributes == ({"posthog.http.status": status} if kept else {})


@pytest.mark.parametrize(
    ("code", "content", "error_type"),
    [
        ("RESOURCE_EXHAUSTED", False, "RESOURCE_EXHAUSTED"),
        (503, False, "503"),
        ("you said x", False, "_OTHER"),
        ("x" * 65, False, "_OTHER"),
        ("you said x", True, "you said x"),
    ],
)
def test_without_content_a_code_looks_like_one(code: Any, content: bool, error_type: str) -> None:
    assert sanitized({"error.type": code}, content=content) == {"error.type": error_type}
