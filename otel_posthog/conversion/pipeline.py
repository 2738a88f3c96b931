"""`Pipeline`: views of spans become events. The composition of `span_reader`, `traces` and `events`. Pure.

Its methods raise only because of a fault of ours. `forwarder.span_converter.SpanConverter` calls them for
many spans and keeps the other spans if one fails.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from otel_posthog.conversion import events, traces
from otel_posthog.conversion.events.sampling import EVERYTHING_ELSE, Sampling, with_rate
from otel_posthog.conversion.model_call import CallContext, Kind, ModelCall
from otel_posthog.conversion.pricing.cost import Cost, PriceBook
from otel_posthog.conversion.privacy.allow_list import Event, hide_content
from otel_posthog.conversion.privacy.media import MediaReplacer, placeholder
from otel_posthog.conversion.privacy.pseudonyms import pseudonymize_call
from otel_posthog.conversion.privacy.redaction import Redactor, redact_call, redact_content
from otel_posthog.conversion.span_reader import read_call
from otel_posthog.conversion.spans.feature_rules import FeatureRules
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["Pipeline"]

STRUCTURE = frozenset(Kind) - {Kind.GENERATION, Kind.EMBEDDING, Kind.EVALUATION}
"""Kinds of spans that are no model calls and have an event of their own."""

NOT_SAMPLED = "sample_rate"
"""The reason under which events are counted that sampling drops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The settings that decide which events a span becomes."""

    families: frozenset[str]
    """Families of events to make: `ai`, `llm_completion`, `llm_generation`."""
    content: bool = True
    """Whether content is sent at all."""
    private_features: frozenset[str] = frozenset()
    """Features whose content is hidden."""
    content_sample_rate: float = 1.0
    """The share of traces whose content is sent, 0 to 1."""
    media: MediaReplacer | None = placeholder
    """Makes the text that replaces images, audio and files; None: they are sent whole."""
    pseudonym_key: bytes | None = field(default=None, repr=False)
    """The key with which distinct ids are hashed; None: they are sent as they are."""
    features: FeatureRules | None = None
    """Derives the feature of a span from its ancestors."""
    redact: Redactor | None = field(default=None, repr=False)
    """Redacts texts (`privacy.redaction.redactor`); None: only provider keys are redacted."""
    prices: PriceBook | None = None
    """Works out costs; None: PostHog does."""
    sampling: Sampling | None = None
    """Decides which events are kept; None: all."""

    @property
    def hides_content(self) -> bool:
        """Whether these settings hide the content of some calls, in addition to calls in privacy mode."""
        return not self.content or bool(self.private_features) or self.content_sample_rate < 1

    def recipe(self) -> bytes:
        """Return, as JSON, the settings with which a process that finds the span on disk converts it.

        Own prices, the key of pseudonyms and redaction are not in it. If one of the last two is set, no span
        is written to disk; the process that converts a span from disk applies its own.
        """
        settings: dict[str, Any] = {
            "events": sorted(self.families),
            "content": self.content,
            "media": "replaced" if self.media is not None else "full",
            "cost": self.prices is not None,
        }
        if self.sampling is not None:
            settings["sampling"] = {
                "rates": dict(sorted(self.sampling.rates.items())),
                "keep_cost": self.sampling.keep_cost,
            }
        return orjson.dumps(settings)

    def with_recipe(self, recipe: bytes) -> Pipeline:
        """Return the pipeline of a recipe, with this one's prices; content that this one hides stays hidden.

        Raises:
            ValueError, TypeError, LookupError: `recipe` is not valid.
        """
        settings = orjson.loads(recipe)
        own_prices = self.prices or (self.sampling.prices if self.sampling is not None else None)
        sampling: Sampling | None = None
        if (sampled := settings.get("sampling")) is not None:
            rates = {str(feature): float(rate) for feature, rate in sampled["rates"].items()}
            rates[EVERYTHING_ELSE]  # raises KeyError: a recipe without it is not valid
            own_prices = own_prices or PriceBook()
            sampling = Sampling(rates=rates, keep_cost=float(sampled["keep_cost"]), prices=own_prices)
        return replace(
            self,
            families=frozenset(settings["events"]),
            content=bool(settings["content"]) and self.content,
            media=None if settings["media"] == "full" else self.media or placeholder,
            prices=(own_prices or PriceBook()) if settings["cost"] else None,
            sampling=sampling,
        )

    def read(self, view: SpanView) -> ModelCall:
        """Return the call of a span, with a pseudonym for its user if one is required.

        If content is hidden because of the feature or the trace, the call is put into privacy mode, so that
        spans it is merged with, and the root of its trace, hide it too.
        """
        call = read_call(view)
        if self.content and not self._shows(call):
            call = call._replace(context=call.context._replace(privacy_mode=True))
        return call if self.pseudonym_key is None else pseudonymize_call(call, self.pseudonym_key)

    def finished_events(
        self,
        *views: SpanView,
        announced: Container[str] = (),
        history: traces.SpanHistory | None = None,
        parents: traces.Parents | None = None,
    ) -> list[Event]:
        """Return the events of finished spans.

        `announced` holds ids of spans whose `llm_completion_requested` has been sent. See `traces.resolve`
        for `history` and `parents`.
        """
        calls = [self.read(view) for view in views]
        return self.events(traces.resolve(calls, history, parents=parents), announced=announced)

    def events(
        self,
        calls: Sequence[ModelCall],
        announced: Container[str] = (),
        dropped: Counter[str] | None = None,
    ) -> list[Event]:
        """Return the events of resolved calls. The events that sampling drops are counted in `dropped`."""
        if self.sampling is None:
            return self._all_events(calls, announced)
        return self._sampled_events(
            self.sampling, calls, announced, Counter() if dropped is None else dropped
        )

    def _sampled_events(
        self, sampling: Sampling, calls: Sequence[ModelCall], announced: Container[str], dropped: Counter[str]
    ) -> list[Event]:
        calls_by_rate: dict[tuple[float, bool], list[ModelCall]] = {}
        sampled: list[Event] = []
        for call in calls:
            rate = sampling.rate(call)
            if rate < 1 and sampling.keeps_anyway(call, self._cost_for_sampling(call)):
                calls_by_rate.setdefault((1.0, True), []).append(call)
            elif sampling.keeps_trace(call):
                calls_by_rate.setdefault((rate, False), []).append(call)
            else:
                dropped[NOT_SAMPLED] += self._number_of_events(call, announced)
                if call.evaluations and "ai" in self.families:
                    sampled += self.score_events(call, dropped)
        for (rate, kept_anyway), kept in calls_by_rate.items():
            # A call that was announced with its trace's rate is announced again, with the rate 1.
            kept_events = self._all_events(kept, () if kept_anyway else announced, dropped)
            sampled += [with_rate(event, rate) for event in kept_events]
        return sampled

    def _number_of_events(self, call: ModelCall, announced: Container[str]) -> int:
        """Return how many events a call becomes, not counting its scores."""
        if not call.kind.is_model_call:
            return int("ai" in self.families and call.kind in STRUCTURE)
        has_requested = "llm_completion" in self.families and call.span_id not in announced
        return len(self.families) + has_requested

    def _all_events(
        self, calls: Sequence[ModelCall], announced: Container[str], dropped: Counter[str] | None = None
    ) -> list[Event]:
        """Return the events of calls without sampling them.

        Each stage runs for all calls before the next one: its code stays in the processor's caches, which
        makes twenty calls together a quarter cheaper than one after the other.
        """
        calls = [self._without_private_texts(call) for call in calls]
        model_calls = [call for call in calls if call.kind.is_model_call]
        costs = [self._cost(call) for call in model_calls]
        all_events: list[Event] = []
        if "ai" in self.families:
            all_events += [self._ai(call, cost) for call, cost in zip(model_calls, costs, strict=True)]
            if len(model_calls) < len(calls):
                all_events += [self._ai(call, None) for call in calls if call.kind in STRUCTURE]
            all_events += [
                event for call in calls if call.evaluations for event in self._scores(call, dropped)
            ]
        if "llm_completion" in self.families:
            all_events += [
                events.requested_event(call) for call in model_calls if call.span_id not in announced
            ]
            all_events += [
                events.success_event(call, cost)
                if call.error is None
                else events.failed_event(call, content=self._shows(call))
                for call, cost in zip(model_calls, costs, strict=True)
            ]
        if "llm_generation" in self.families:
            all_events += [
                events.generation_event(call, cost) for call, cost in zip(model_calls, costs, strict=True)
            ]
        return all_events

    def started_events(self, view: SpanView) -> list[Event]:
        """Return `llm_completion_requested` of a span that has begun; nothing if it has no model yet."""
        if "llm_completion" not in self.families:
            return []
        call = self.read(view)
        if not call.kind.is_model_call or call.request_model is None:
            return []
        call = self._without_private_texts(call)
        if self.sampling is None:
            return [events.requested_event(call)]
        # Only its end shows whether a call of a trace that is not sampled is kept; then it is announced too.
        if not self.sampling.keeps_trace(call):
            return []
        return [with_rate(events.requested_event(call), self.sampling.rate(call))]

    def is_announced_by(self, view: SpanView, outer: SpanView) -> bool:
        """Whether the outer span shows the same call, so that the call has been announced with it."""
        inner_call, outer_call = read_call(view), read_call(outer)
        if self.sampling is not None and not self.sampling.keeps_trace(outer_call):
            return False
        return outer_call.request_model is not None and traces.may_be_one(outer_call, inner_call)

    def may_become_one(self, view: SpanView, outer: SpanView) -> bool:
        """Whether two open spans may show one call at their end though they do not agree on the model yet.

        A fallback over several models begins under a name of its own, and ends with the model that answered.
        """
        inner_call, outer_call = read_call(view), read_call(outer)
        return inner_call.kind is outer_call.kind and inner_call.scope != outer_call.scope

    def _ai(self, call: ModelCall, cost: Cost | None) -> Event:
        shows = self._shows(call)
        if shows:
            call = redact_content(call, self.redact)
        return events.ai_event(call, cost, content=shows, media=self.media)

    def score_events(self, call: ModelCall, dropped: Counter[str] | None = None) -> list[Event]:
        """Return the events of a call's scores and feedback.

        Scores are sampled with their trace, feedback is always kept. The events that sampling drops are
        counted in `dropped`.
        """
        return self._scores(self._without_private_texts(call), dropped)

    def _without_private_texts(self, call: ModelCall) -> ModelCall:
        """Return the call redacted, and without free text in names and ids if its content is hidden."""
        return redact_call(call if self._shows(call) else hide_content(call), self.redact)

    def _scores(self, call: ModelCall, dropped: Counter[str] | None = None) -> list[Event]:
        scores = events.evaluation_events(call, content=self._shows(call))
        if self.sampling is None:
            return scores
        keeps, rate = self.sampling.keeps_trace(call), self.sampling.rate(call)
        kept = []
        for event in scores:
            if event["event"] == "$ai_feedback":
                kept.append(with_rate(event, 1.0))
            elif keeps:
                kept.append(with_rate(event, rate))
            elif dropped is not None:
                dropped[NOT_SAMPLED] += 1
        return kept

    def _shows(self, call: ModelCall) -> bool:
        """Whether the content of the call is sent."""
        context = call.context
        return (
            self.content
            and not context.privacy_mode
            and (not self.hides_content or self.shows_content(_features(context), call.trace_key))
        )

    def shows_content(self, features: Sequence[str | None], trace_id: str | None) -> bool:
        """Whether these settings let content of these features and that trace be sent."""
        return (
            self.content
            and self.private_features.isdisjoint(features)
            and (
                self.content_sample_rate >= 1
                or (trace_id is not None and _position(trace_id) < self.content_sample_rate)
            )
        )

    def _cost(self, call: ModelCall) -> Cost | None:
        if call.cost_usd is not None:
            return Cost(call.input_cost_usd, call.output_cost_usd, call.cost_usd)
        return self.prices.cost(call) if self.prices is not None else None

    def _cost_for_sampling(self, call: ModelCall) -> Cost | None:
        """Return the cost of a call, even if the costs that are sent are left to PostHog."""
        if not call.kind.is_model_call:
            return None
        if self.prices is None and call.cost_usd is None and self.sampling is not None:
            return self.sampling.prices.cost(call) if self.sampling.prices is not None else None
        return self._cost(call)


def _features(context: CallContext) -> tuple[str | None, ...]:
    """Return the feature, and the application's own if other metadata names another one."""
    return (context.feature,) if context.own is None else (context.feature, context.own.feature)


def _position(trace_id: str) -> float:
    """Return a number from 0 to 1 that is the same for a trace in every process."""
    # Another hash than that of `sampling.draw`: of the traces that are kept this is to choose a share as
    # well.
    digest = hashlib.blake2b(trace_id.encode(errors="replace"), digest_size=8, person=b"content").digest()
    return int.from_bytes(digest, "big") / 2**64
