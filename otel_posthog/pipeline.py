"""Spans in, events out: the composition of `spans`, `calls` and `events`. Pure.

`Pipeline` is told once what to make; `finished` and `started` then turn a view of a span into events.
They raise only for a fault of ours; whoever calls them for many spans keeps the others
(`assembly.Forwarder.convert` does).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from otel_posthog import events, spans
from otel_posthog.calls import ModelCall
from otel_posthog.events.cost import Cost, PriceBook
from otel_posthog.spans.view import SpanView

__all__ = ["Pipeline"]

Event = dict[str, Any]


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

    def started(self, view: SpanView) -> list[Event]:
        """`llm_completion_requested` of a span that has begun; nothing where it names no model yet."""
        if "llm_completion" not in self.families:
            return []
        call = spans.read(view)
        known = call.kind.is_model_call and call.request_model is not None
        return [events.requested(call)] if known else []

    def _ai(self, call: ModelCall, cost: Cost | None, content: bool) -> Event:
        return events.ai_event(call, cost, content=content, full_media=self.full_media)

    def _cost(self, call: ModelCall) -> Cost | None:
        if call.cost_usd is not None:
            return Cost(0.0, 0.0, call.cost_usd)
        return self.prices.cost(call) if self.prices is not None else None
