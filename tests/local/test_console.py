from __future__ import annotations

from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.local import timestamps
from otel_posthog.local.console import columns_of, fit, head, line, plain

UTC = timezone.utc
GOLDEN = Path(__file__).with_name("lines.txt")


def event(name: str, properties: Any, **top: Any) -> dict[str, Any]:
    return {
        "event": name,
        "distinct_id": "user_42",
        "timestamp": "2026-11-20T12:34:56.789123+00:00",
        "properties": properties,
        **top,
    }


GENERATION = event(
    "$ai_generation",
    {
        "feature": "smart_replies",
        "$ai_model": "gpt-5-mini",
        "$ai_input_tokens": 120,
        "$ai_output_tokens": 34,
        "$ai_total_cost_usd": 0.0012349,
        "$ai_latency": 0.8125,
        "user_id": "user_42",
    },
)
REQUESTED = event(
    "llm_completion_requested",
    {"feature": "image", "model": "gemini-3-pro-image-preview", "prompt_tokens": 9},
)
FAILED = event(
    "llm_completion_failed",
    {"feature": "tldr", "model": "gpt-5.1", "latency_ms": 31, "error_type": "RateLimitError"},
)
SUCCESS = event(
    "llm_completion_success",
    {"model": "gpt-5.1", "prompt_tokens": 0, "completion_tokens": 7, "cost_usd": 0, "latency_ms": 5},
)


def test_lines_stand_in_columns() -> None:
    lines = [head(), *(line(one, zone=UTC) for one in (GENERATION, REQUESTED, FAILED, SUCCESS))]
    assert lines == GOLDEN.read_text("utf-8").splitlines()


def test_an_event_of_nothing_is_a_line_of_dashes() -> None:
    assert line({}).split() == ["-"] * 8
    assert line({"event": "x", "properties": None}).split() == ["-", "x", *["-"] * 6]


@pytest.mark.parametrize(
    ("properties", "word"),
    [
        ({"$ai_input_tokens": "many", "$ai_output_tokens": True}, "many"),
        ({"$ai_latency": float("inf")}, "inf"),
        ({"cost_usd": [1]}, "[1]"),
    ],
)
def test_absurd_values_are_absent(properties: dict[str, Any], word: str) -> None:
    shown = line(event("e", properties), zone=UTC)
    assert word not in shown
    assert shown.split() == ["12:34:56.789", "e", "-", "-", "-", "-", "-", "user_42"]


def test_the_distinct_id_of_a_personless_event_is_no_user() -> None:
    assert line(event("e", {"$process_person_profile": False})).endswith("-")
    assert line(event("e", {"$process_person_profile": False, "user_id": "u1"})).endswith("u1")


def test_the_time_is_shown_in_the_zone() -> None:
    assert line(GENERATION, zone=timezone(timedelta(hours=2))).startswith("14:34:56.789 ")
    naive = event("e", {}, timestamp="2026-11-20T01:02:03")
    assert line(naive, zone=timezone(timedelta(hours=2))).startswith("01:02:03.000 ")


@pytest.mark.parametrize(
    "evil",
    [
        "\x1b[31mred",
        "a\nb",
        "a\rb",
        "a\x00b",
        "a\x7fb",
        "a\x9bb",
        "a\u202eb",
        "a\u2028b",
        "a\ud800b",
        "a\u200bb",
    ],
)
def test_control_characters_are_neutralised(evil: str) -> None:
    shown = line(event(evil, {"feature": evil, "$ai_model": evil, "user_id": evil, "$ai_is_error": True}))
    assert shown.isprintable()
    assert "?" in shown
    assert len(plain(evil)) == len(evil)


def test_colour_marks_failures_and_beginnings_only_when_asked() -> None:
    assert line(FAILED, color=True) == f"\x1b[31m{line(FAILED)}\x1b[0m"
    assert line(REQUESTED, color=True) == f"\x1b[2m{line(REQUESTED)}\x1b[0m"
    assert line(GENERATION, color=True) == line(GENERATION)
    assert "\x1b" not in line(FAILED)


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abc", 5, "abc  "),
        ("abcdef", 5, "abcd~"),
        ("小李和小王", 6, "小李~ "),
        ("e\u0301tude", 5, "e\u0301tude"),
        ("", 2, "  "),
    ],
)
def test_fit_counts_terminal_columns(text: str, width: int, shown: str) -> None:
    assert fit(text, width) == shown
    assert columns_of(fit(text, width)) == width
    assert columns_of(fit(text, width, right=True)) == width


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2026-11-20T12:34:56Z", "2026-11-20T12:34:56+00:00"),
        ("2026-11-20T12:34:56.1234567Z", "2026-11-20T12:34:56.123456+00:00"),
        ("2026-11-20 12:34:56.5+02:00", "2026-11-20T12:34:56.500000+02:00"),
        ("2026-11-20T12:34:56", "2026-11-20T12:34:56"),
        ("2026-13-20T12:34:56Z", None),
        ("today", None),
        (1_763_600_000, None),
        (None, None),
    ],
)
def test_timestamps_are_read_alike_on_every_python(text: object, iso: str | None) -> None:
    moment = timestamps.parse(text)
    assert (None if moment is None else moment.isoformat()) == iso
