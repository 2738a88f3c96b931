from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otel_posthog.demo.report import FeatureRow, rows, table, verdict

GOLDEN = Path(__file__).with_name("table.txt")


def event(name: str, span: str = "s1", **properties: Any) -> dict[str, Any]:
    return {"event": name, "properties": {"$ai_span_id": span, **properties}}


def call(span: str, feature: str = "tldr", **outcome: Any) -> list[dict[str, Any]]:
    """The four, or rather three, events of one call."""
    ended = "llm_completion_failed" if "error_type" in outcome else "llm_completion_success"
    return [
        event("llm_completion_requested", span, feature=feature),
        event(ended, span, feature=feature, **outcome),
        event("$ai_generation", span, feature=feature, **{"$ai_latency": 9.9, "$ai_total_cost_usd": 99}),
    ]


AFTERNOON = [
    *call("1", "tldr", total_tokens=1000, cost_usd=0.0125, latency_ms=400),
    *call("2", "tldr", total_tokens=234, cost_usd=0.0025, latency_ms=1200),
    *call("3", "tldr", error_type="RateLimitError", latency_ms=5),
    *call("4", "meme", total_tokens=300, latency_ms=2500),
    *call("5", "ta\x1b[31mble", error_type="APITimeoutError", latency_ms=5),
]


def test_the_table() -> None:
    assert table(rows(AFTERNOON)) == GOLDEN.read_text("utf-8").rstrip("\n")


def test_rows_sum_what_was_reported_and_leave_out_what_was_not() -> None:
    found = {row.feature: row for row in rows(AFTERNOON)}
    tldr, meme, total = found["tldr"], found["meme"], found["total"]
    assert (tldr.calls, tldr.failures, tldr.tokens, tldr.cost_usd) == pytest.approx((3, 1, 1234, 0.015))
    # The failure's 5 ms are no answer's latency.
    assert (tldr.average_ms, tldr.p95_ms) == (800, 1200)
    assert (meme.tokens, meme.cost_usd) == (300, None)
    assert (total.calls, total.failures, total.tokens, total.cost_usd) == pytest.approx((5, 2, 1534, 0.015))


def test_no_events_make_an_empty_table() -> None:
    assert rows([]) == [FeatureRow("total")]
    assert table(rows([])).splitlines()[-1].split() == ["total", "0", "0", "-", "-", "-", "-"]


def test_an_event_without_a_feature_or_without_properties_counts_all_the_same() -> None:
    found = rows([{"event": "llm_completion_requested"}, {"event": "x"}, {}])
    assert [(row.feature, row.calls) for row in found] == [("-", 1), ("total", 1)]


def test_absurd_values_are_not_summed() -> None:
    (row, _) = rows(call("1", total_tokens="many", cost_usd=float("nan"), latency_ms=None))
    assert (row.calls, row.tokens, row.cost_usd, row.average_ms, row.p95_ms) == (1, None, None, None, None)


@pytest.mark.parametrize(
    ("count", "p95"), [(1, 1), (2, 2), (19, 19), (20, 19), (21, 20), (100, 95), (101, 96)]
)
def test_p95_is_the_nearest_rank(count: int, p95: float) -> None:
    assert FeatureRow("f", latencies_ms=[float(value) for value in range(count, 0, -1)]).p95_ms == p95


def test_everything_arrived() -> None:
    found = verdict(AFTERNOON, calls=5, failed=2)
    assert found.complete
    assert found.sentence == (
        "5 calls, 5 requested, 3 succeeded, 2 failed, 5 generations: nothing lost, nothing twice"
    )


@pytest.mark.parametrize("missing", range(len(AFTERNOON)))
def test_whatever_is_missing_is_lost(missing: int) -> None:
    found = verdict([*AFTERNOON[:missing], *AFTERNOON[missing + 1 :]], calls=5, failed=2)
    assert not found.complete
    assert "1 lost" in found.sentence


@pytest.mark.parametrize("again", range(len(AFTERNOON)))
def test_whatever_is_there_twice_is_too_many(again: int) -> None:
    found = verdict([*AFTERNOON, AFTERNOON[again]], calls=5, failed=2)
    assert not found.complete
    assert "1 too many" in found.sentence


def test_a_duplicate_that_the_inbox_did_not_keep_is_too_many() -> None:
    events = [{**one, "_inbox": {"copies": 3 if place == 0 else 1}} for place, one in enumerate(AFTERNOON)]
    found = verdict(events, calls=5, failed=2)
    assert not found.complete
    assert "2 too many" in found.sentence


def test_right_counts_of_the_wrong_spans_are_not_complete() -> None:
    events = [*call("1"), *call("2")]
    events[-1] = event("$ai_generation", "3")
    found = verdict(events, calls=2, failed=0)
    assert not found.complete
    assert "do not belong together" in found.sentence


def test_a_call_too_few_is_not_complete() -> None:
    assert not verdict(call("1"), calls=2, failed=0).complete
    assert not verdict(call("1"), calls=1, failed=1).complete
    assert not verdict([], calls=1, failed=0).complete


def test_an_afternoon_without_calls_is_complete() -> None:
    assert verdict([], calls=0, failed=0).complete
