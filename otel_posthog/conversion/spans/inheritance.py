"""Context that spans inherit from the spans above them, if no processor of ours saw them start.

In a file, behind a Collector and for an exporter alone, user and feature are attributes of a span above,
often of a web server's span. `inherit_context` adds to each span what the processor would have added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from otel_posthog.conversion.context_attributes import FEATURE, has_context, inherited
from otel_posthog.conversion.spans.feature_rules import FeatureRules
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView

__all__ = ["inherit_context"]

ParentAndAttributes = tuple["str | None", Mapping[str, Any]]
_NOTHING: Mapping[str, Any] = {}


def inherit_context(
    views: Sequence[SpanView],
    context_spans: Iterable[ContextSpan] = (),
    features: FeatureRules | None = None,
) -> None:
    """Add to the attributes of each view what it inherits from the views and `context_spans` above it.

    `features` name the feature of a span that has none itself.
    """
    spans: dict[tuple[str, str], ParentAndAttributes] = {
        (span.trace_id, span.span_id): (span.parent_id, span.attributes) for span in context_spans
    }
    spans.update({(view.trace_id, view.span_id): (view.parent_id, view.attributes) for view in views})
    passed_on: dict[tuple[str, str], Mapping[str, Any]] = {}
    for view in views:
        own, above = view.attributes, _NOTHING
        if view.parent_id is not None:
            above = _passed_on_by(view.trace_id, view.parent_id, spans, passed_on, features)
        if features is not None and not has_context(above, FEATURE) and (feature := features.feature_of(own)):
            above = {**above, FEATURE: feature}
        if above:
            own.update([(name, value) for name, value in above.items() if not has_context(own, name)])


def _passed_on_by(
    trace_id: str,
    span_id: str,
    spans: Mapping[tuple[str, str], ParentAndAttributes],
    passed_on: dict[tuple[str, str], Mapping[str, Any]],
    features: FeatureRules | None,
) -> Mapping[str, Any]:
    """Return what the children of a span inherit: its own context, and what it inherits itself."""
    climbed: list[tuple[tuple[str, str], Mapping[str, Any]]] = []
    step: str | None = span_id
    above = _NOTHING
    while step is not None:
        key = (trace_id, step)
        known = passed_on.get(key)
        if known is not None:
            above = known
            break
        span = spans.get(key)
        if span is None:
            break
        passed_on[key] = _NOTHING  # ends the climb if the span is its own ancestor
        climbed.append((key, span[1]))
        step = span[0]
    for key, attributes in reversed(climbed):
        own = {name: value for name, value in above.items() if not has_context(attributes, name)}
        own.update(inherited(attributes))
        if features is not None and not has_context(own, FEATURE):
            feature = features.feature_of(attributes)
            if feature:
                own[FEATURE] = feature
        above = passed_on[key] = own
    return above
