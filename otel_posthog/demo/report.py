"""The events that arrived: a table by feature, and a verdict on whether all of them did. Pure.

All figures come from the events alone, as PostHog would show them.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from otel_posthog.local.console import ABSENT, fit, number, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Event = Mapping[str, Any]

REQUESTED, SUCCESS, FAILED = "llm_completion_requested", "llm_completion_success", "llm_completion_failed"
GENERATION = "$ai_generation"

TOTAL = "total"


@dataclass(slots=True)
class FeatureRow:
    """The sums of one feature."""

    feature: str
    calls: int = 0
    failures: int = 0
    tokens: float | None = None
    cost_usd: float | None = None
    latencies_ms: list[float] = field(default_factory=list)
    """Latencies of the calls that succeeded: the time until an error says nothing about a model."""

    @property
    def average_ms(self) -> float | None:
        """The mean latency in milliseconds, or None without a successful call."""
        return sum(self.latencies_ms) / len(self.latencies_ms) if self.latencies_ms else None

    @property
    def p95_ms(self) -> float | None:
        """The latency in milliseconds that 95 % of the calls stay within (nearest rank)."""
        ranked = sorted(self.latencies_ms)
        return ranked[math.ceil(0.95 * len(ranked)) - 1] if ranked else None

    def count(self, name: str, properties: Event) -> None:
        """Add one event."""
        self.calls += name == REQUESTED
        self.failures += name == FAILED
        if name != SUCCESS:
            return
        # A value that was not reported stays unknown: a sum of unknowns is none, not zero.
        self.tokens = _add(self.tokens, properties.get("total_tokens"))
        self.cost_usd = _add(self.cost_usd, properties.get("cost_usd"))
        latency = number(properties.get("latency_ms"))
        if latency is not None:
            self.latencies_ms.append(latency)


def _add(total: float | None, value: object) -> float | None:
    more = number(value)
    return total if more is None else (total or 0) + more


def _properties(event: Event) -> Event:
    properties = event.get("properties")
    return properties if isinstance(properties, dict) else {}


def rows(events: Iterable[Event]) -> list[FeatureRow]:
    """Return a row for each feature, sorted by name, and the total as the last row."""
    by_feature: dict[str, FeatureRow] = {}
    total = FeatureRow(TOTAL)
    for event in events:
        name, properties = str(event.get("event")), _properties(event)
        if name not in {REQUESTED, SUCCESS, FAILED}:
            continue
        feature = str(properties.get("feature") or ABSENT)
        for row in (by_feature.setdefault(feature, FeatureRow(feature)), total):
            row.count(name, properties)
    return [*(by_feature[feature] for feature in sorted(by_feature)), total]


def _shown(value: float | None, form: str) -> str:
    return ABSENT if value is None else form.format(value)


_HEADS = ("feature", "calls", "failures", "tokens", "cost", "average", "p95")
_WIDTHS = (16, 6, 9, 9, 11, 9, 9)


def _cells(row: FeatureRow) -> tuple[str, ...]:
    return (
        plain(row.feature),
        f"{row.calls:,}",
        f"{row.failures:,}",
        _shown(row.tokens, "{:,.0f}"),
        _shown(row.cost_usd, "${:,.6f}"),
        _shown(row.average_ms, "{:,.0f} ms"),
        _shown(row.p95_ms, "{:,.0f} ms"),
    )


def table(feature_rows: Sequence[FeatureRow]) -> str:
    """Return the rows as text, the last of them under a rule."""
    rule = "  ".join("-" * width for width in _WIDTHS)
    lines = [_HEADS, *map(_cells, feature_rows)]
    text = [
        "  ".join(
            fit(cell, width, right=index > 0)
            for index, (cell, width) in enumerate(zip(line, _WIDTHS, strict=True))
        )
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in [text[0], rule, *text[1:-1], rule, text[-1]])


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement: whether every event arrived, once, and a sentence for people."""

    complete: bool
    sentence: str


def verdict(events: Sequence[Event], *, calls: int, failed: int) -> Verdict:
    """Compare the events with the number of calls and how many of those failed."""
    names = Counter(str(event.get("event")) for event in events)
    expected = {REQUESTED: calls, SUCCESS: calls - failed, FAILED: failed, GENERATION: calls}
    counted = (
        f"{calls} calls, {names[REQUESTED]} requested, {names[SUCCESS]} succeeded, {names[FAILED]} failed, "
        f"{names[GENERATION]} generations"
    )
    lost = sum((Counter(expected) - names).values())
    twice = sum((Counter({name: names[name] for name in expected}) - Counter(expected)).values()) + _copies(
        events
    )
    faults = [
        text
        for is_so, text in (
            (lost, f"{lost} lost"),
            (twice, f"{twice} too many"),
            (not _tells_one_story(events), "the events of a call do not belong together"),
        )
        if is_so
    ]
    if not faults:
        return Verdict(complete=True, sentence=f"{counted}: nothing lost, nothing twice")
    return Verdict(complete=False, sentence=f"{counted}: {', '.join(faults)}")


def _copies(events: Sequence[Event]) -> int:
    """Return how many events were sent again: the inbox keeps one and counts its copies."""
    inbox = (event.get("_inbox") for event in events)
    return sum(about.get("copies", 1) - 1 for about in inbox if isinstance(about, dict))


def _tells_one_story(events: Sequence[Event]) -> bool:
    """Whether each requested span has its outcome and its generation, and no other span has any."""
    spans: dict[str, set[Any]] = {REQUESTED: set(), SUCCESS: set(), FAILED: set(), GENERATION: set()}
    for event in events:
        name = str(event.get("event"))
        if name in spans:
            spans[name].add(_properties(event).get("$ai_span_id"))
    return spans[REQUESTED] == spans[SUCCESS] | spans[FAILED] == spans[GENERATION] and not (
        spans[SUCCESS] & spans[FAILED]
    )
