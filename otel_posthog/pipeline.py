"""Spans in, events out: the composition of `spans`, `calls` and `events`. Pure.

`Pipeline` is told once what to make; `finished` and `started` then turn a view of a span into events.
They may raise only for a fault of ours: whoever calls them for many spans keeps the others
(`convert_all` does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from otel_posthog import events, spans
from otel_posthog.calls import ModelCall
from otel_posthog.events.cost import Cost, PriceBook
from otel_posthog.spans.view import SpanView

__all__ = ["Conversion", "Pipeline"]

Event = dict[str, Any]


@dataclass(slots=True)
class Conversion:
    """What became of some spans: their events, and for each that could not be converted the error's class."""

    events: list[Event] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """What is made of a span."""

    families: frozenset[str]
    """Of `ai`, `llm_completion`, `llm_generation`."""
    content: bool = True
    full_media: bool = False
    prices: PriceBook | None = None
    """None: PostHog works out the costs."""

    def finished(self, view: SpanView, *, requested: bool = True) -> list[Event]:
        """The events of a finished span; `requested` False where that event was sent at its start."""
        call = spans.read(view)
        content = self.content and not call.context.privacy_mode
        if not call.kind.is_model_call:
            return [self._ai(call, None, content)] if "ai" in self.families else []
        cost = self._cost(call)
        made: list[Event] = []
        if "ai" in self.families:
            made.append(self._ai(call, cost, content))
        if "llm_completion" in self.families:
            if requested:
                made.append(events.requested(call))
            made.append(
                events.success(call, cost) if call.error is None else events.failed(call, content=content)
            )
        if "llm_generation" in self.families:
            made.append(events.generation(call, cost))
        return made

    def started(self, view: SpanView) -> Event | None:
        """`llm_completion_requested` of a span that has begun; None where it does not yet say which model."""
        if "llm_completion" not in self.families:
            return None
        call = spans.read(view)
        if not call.kind.is_model_call or call.request_model is None:
            return None
        return events.requested(call)

    def convert_all(
        self, views: Iterable[SpanView], convert: Callable[[SpanView], list[Event]]
    ) -> Conversion:
        """`convert` of each view; one that fails takes nothing else with it."""
        made = Conversion()
        for view in views:
            try:
                made.events.extend(convert(view))
            except Exception as error:  # noqa: BLE001, PERF203  # a fault of ours must not cost the neighbours
                made.failures.append(type(error).__name__)
        return made

    def _ai(self, call: ModelCall, cost: Cost | None, content: bool) -> Event:
        return events.ai_event(call, cost, content=content, full_media=self.full_media)

    def _cost(self, call: ModelCall) -> Cost | None:
        if call.cost_usd is not None:
            return Cost(0.0, 0.0, call.cost_usd)
        return self.prices.cost(call) if self.prices is not None else None
