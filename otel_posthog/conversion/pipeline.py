"""Spans in, events out: the composition of `spans`, `traces` and `events`. Pure.

`Pipeline` is told once what to make; `finished` and `started` then turn a view of a span into events.
They raise only for a fault of ours; whoever calls them for many spans keeps the others
(`assembly.Forwarder.convert` does).
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
from otel_posthog.conversion.privacy.allow_list import hide_content
from otel_posthog.conversion.privacy.media import MediaReplacer, placeholder
from otel_posthog.conversion.privacy.pseudonyms import pseudonymize_call
from otel_posthog.conversion.privacy.redaction import Redactor, redact_call, redact_content
from otel_posthog.conversion.span_reader import read_call
from otel_posthog.conversion.spans.feature_rules import FeatureRules
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["Pipeline"]

Event = dict[str, Any]

STRUCTURE = frozenset(Kind) - {Kind.GENERATION, Kind.EMBEDDING, Kind.EVALUATION}
"""What is an event of its own without being a call to a model."""

NOT_SAMPLED = "sample_rate"
"""The reason under which events are counted that the option of that name leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """What is made of a span."""

    families: frozenset[str]
    """Of `ai`, `llm_completion`, `llm_generation`."""
    content: bool = True
    private_features: frozenset[str] = frozenset()
    """Features of which no content is shown."""
    content_sample_rate: float = 1.0
    """The share of traces of which content is shown, 0 to 1."""
    media: MediaReplacer | None = placeholder
    """What stands for images, audio and files; None: they stay whole."""
    pseudonym_key: bytes | None = field(default=None, repr=False)
    """The key with which users are hashed; None: they are named."""
    features: FeatureRules | None = None
    """Which feature a span is of, by those above it."""
    redact: Redactor | None = field(default=None, repr=False)
    """What masks texts (`events.redact.redactor`); None: nothing but keys and tokens of providers."""
    prices: PriceBook | None = None
    """None: PostHog works out the costs."""
    sampling: Sampling | None = None
    """None: everything is kept."""

    @property
    def hides_content(self) -> bool:
        """Whether there are calls whose content is hidden though they do not ask for it."""
        return not self.content or bool(self.private_features) or self.content_sample_rate < 1

    def recipe(self) -> bytes:
        """What decides about the events of a span, but for prices, as JSON for whoever converts it later.

        Neither the key of pseudonyms nor what is redacted: where one of them is set no span waits on disk,
        and whoever converts one that does applies its own.
        """
        told: dict[str, Any] = {
            "events": sorted(self.families),
            "content": self.content,
            "media": "replaced" if self.media is not None else "full",
            "cost": self.prices is not None,
        }
        if self.sampling is not None:
            told["sampling"] = {
                "rates": dict(sorted(self.sampling.rates.items())),
                "keep_cost": self.sampling.keep_cost,
            }
        return orjson.dumps(told)

    def with_recipe(self, recipe: bytes) -> Pipeline:
        """The pipeline of such a recipe, with our own prices; what we do not show stays hidden.

        Raises:
            ValueError, TypeError, LookupError: that is none.
        """
        told = orjson.loads(recipe)
        own = self.prices or (self.sampling.prices if self.sampling is not None else None)
        sampling: Sampling | None = None
        if (sampled := told.get("sampling")) is not None:
            rates = {str(feature): float(rate) for feature, rate in sampled["rates"].items()}
            rates[EVERYTHING_ELSE]  # one without it is no recipe
            own = own or PriceBook()
            sampling = Sampling(rates=rates, keep_cost=float(sampled["keep_cost"]), prices=own)
        return replace(
            self,
            families=frozenset(told["events"]),
            content=bool(told["content"]) and self.content,
            media=None if told["media"] == "full" else self.media or placeholder,
            prices=(own or PriceBook()) if told["cost"] else None,
            sampling=sampling,
        )

    def read(self, view: SpanView) -> ModelCall:
        """The call that a span shows, its user by a pseudonym where that is asked for.

        One whose content is hidden for its feature or trace says so itself, so that what shows the same call,
        and what stands for the trace, heeds it.
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
        """The events of finished spans; those that are `announced` (span ids) were told as `requested`.

        `history` and `parents`: see `traces.resolve`.
        """
        calls = [self.read(view) for view in views]
        return self.events(traces.resolve(calls, history, parents=parents), announced=announced)

    def events(
        self,
        calls: Sequence[ModelCall],
        announced: Container[str] = (),
        dropped: Counter[str] | None = None,
    ) -> list[Event]:
        """The events of calls that are each there once.

        `dropped` gets the number of those that are left out, by reason.
        """
        if self.sampling is None:
            return self._made(calls, announced)
        return self._sampled(self.sampling, calls, announced, Counter() if dropped is None else dropped)

    def _sampled(
        self, sampling: Sampling, calls: Sequence[ModelCall], announced: Container[str], dropped: Counter[str]
    ) -> list[Event]:
        """The events of the calls that are kept."""
        alike: dict[tuple[float, bool], list[ModelCall]] = {}
        made: list[Event] = []
        for call in calls:
            rate = sampling.rate(call)
            if rate < 1 and sampling.keeps_anyway(call, self._worth(call)):
                alike.setdefault((1.0, True), []).append(call)
            elif sampling.keeps_trace(call):
                alike.setdefault((rate, False), []).append(call)
            else:
                dropped[NOT_SAMPLED] += self._number_of(call, announced)
                if call.evaluations and "ai" in self.families:
                    made += self.score_events(call, dropped)
        for (rate, anyway), kept in alike.items():
            # One that was announced with its trace's rate is announced again with the right one.
            found = self._made(kept, () if anyway else announced, dropped)
            made += [with_rate(event, rate) for event in found]
        return made

    def _number_of(self, call: ModelCall, announced: Container[str]) -> int:
        """How many events would be made of a call, but for its scores."""
        if not call.kind.is_model_call:
            return int("ai" in self.families and call.kind in STRUCTURE)
        begins = "llm_completion" in self.families and call.span_id not in announced
        return len(self.families) + begins

    def _made(
        self, calls: Sequence[ModelCall], announced: Container[str], dropped: Counter[str] | None = None
    ) -> list[Event]:
        """The events of calls, whatever is kept of them.

        Stage by stage for all of them and not call by call: one stage's code stays in the processor's
        caches, which makes twenty together a quarter cheaper than one after the other.
        """
        calls = [self._as_leaves(call) for call in calls]
        asked = [call for call in calls if call.kind.is_model_call]
        costs = [self._cost(call) for call in asked]
        made: list[Event] = []
        if "ai" in self.families:
            made += [self._ai(call, cost) for call, cost in zip(asked, costs, strict=True)]
            if len(asked) < len(calls):
                made += [self._ai(call, None) for call in calls if call.kind in STRUCTURE]
            made += [event for call in calls if call.evaluations for event in self._scores(call, dropped)]
        if "llm_completion" in self.families:
            made += [events.requested_event(call) for call in asked if call.span_id not in announced]
            made += [
                events.success_event(call, cost)
                if call.error is None
                else events.failed_event(call, content=self._shows(call))
                for call, cost in zip(asked, costs, strict=True)
            ]
        if "llm_generation" in self.families:
            made += [events.generation_event(call, cost) for call, cost in zip(asked, costs, strict=True)]
        return made

    def started_events(self, view: SpanView) -> list[Event]:
        """`llm_completion_requested` of a span that has begun; nothing where it names no model yet."""
        if "llm_completion" not in self.families:
            return []
        call = self.read(view)
        if not call.kind.is_model_call or call.request_model is None:
            return []
        call = self._as_leaves(call)
        if self.sampling is None:
            return [events.requested_event(call)]
        # Of a trace that is not kept, only the end of a call tells whether it is, and then announces it.
        if not self.sampling.keeps_trace(call):
            return []
        return [with_rate(events.requested_event(call), self.sampling.rate(call))]

    def is_announced_by(self, view: SpanView, outer: SpanView) -> bool:
        """Whether the span around it began the same call, and so announces it."""
        inner_call, outer_call = read_call(view), read_call(outer)
        if self.sampling is not None and not self.sampling.keeps_trace(outer_call):
            return False
        return outer_call.request_model is not None and traces.may_be_one(outer_call, inner_call)

    def _ai(self, call: ModelCall, cost: Cost | None) -> Event:
        shows = self._shows(call)
        if shows:
            call = redact_content(call, self.redact)
        return events.ai_event(call, cost, content=shows, media=self.media)

    def score_events(self, call: ModelCall, dropped: Counter[str] | None = None) -> list[Event]:
        """The events of what was said of a call: scores as its trace is kept, what a person said always."""
        return self._scores(self._as_leaves(call), dropped)

    def _as_leaves(self, call: ModelCall) -> ModelCall:
        """The call without what may not leave, whatever is made of it."""
        return redact_call(call if self._shows(call) else hide_content(call), self.redact)

    def _scores(self, call: ModelCall, dropped: Counter[str] | None = None) -> list[Event]:
        made = events.evaluation_events(call, content=self._shows(call))
        if self.sampling is None:
            return made
        keeps, rate = self.sampling.keeps_trace(call), self.sampling.rate(call)
        kept = []
        for event in made:
            if event["event"] == "$ai_feedback":
                kept.append(with_rate(event, 1.0))
            elif keeps:
                kept.append(with_rate(event, rate))
            elif dropped is not None:
                dropped[NOT_SAMPLED] += 1
        return kept

    def _shows(self, call: ModelCall) -> bool:
        """Whether what anybody said in the call may leave."""
        context = call.context
        return (
            self.content
            and not context.privacy_mode
            and (not self.hides_content or self.shows_content(_features(context), call.trace_key))
        )

    def shows_content(self, features: Sequence[str | None], trace_id: str | None) -> bool:
        """Whether what anybody said may leave, where it is of one of the features and of that trace."""
        return (
            self.content
            and self.private_features.isdisjoint(features)
            and (
                self.content_sample_rate >= 1
                or (trace_id is not None and _share(trace_id) < self.content_sample_rate)
            )
        )

    def _cost(self, call: ModelCall) -> Cost | None:
        if call.cost_usd is not None:
            return Cost(call.input_cost_usd, call.output_cost_usd, call.cost_usd)
        return self.prices.cost(call) if self.prices is not None else None

    def _worth(self, call: ModelCall) -> Cost | None:
        """What a call cost, also where it is PostHog that works out what is sent."""
        if not call.kind.is_model_call:
            return None
        if self.prices is None and call.cost_usd is None and self.sampling is not None:
            return self.sampling.prices.cost(call) if self.sampling.prices is not None else None
        return self._cost(call)


def _features(context: CallContext) -> tuple[str | None, ...]:
    """The feature, by whoever names one: where two are named each may be the private one."""
    return (context.feature,) if context.own is None else (context.feature, context.own.feature)


def _share(trace_id: str) -> float:
    """A number from 0 to 1 that every process makes of the trace."""
    # Not by the hash that samples events: of what is kept this is to be a share as well.
    digest = hashlib.blake2b(trace_id.encode(errors="replace"), digest_size=8, person=b"content").digest()
    return int.from_bytes(digest, "big") / 2**64
