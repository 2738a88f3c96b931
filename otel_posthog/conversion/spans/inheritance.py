"""What spans hand down to the spans below them, where no processor of ours did so when they began.

In a file, behind a Collector and for an exporter alone, whose call it is stands on a span above it, often
one of a server that is none of ours. What is put onto a span is what the processor would have put there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from otel_posthog.conversion.context_attributes import FEATURE, inherited, says
from otel_posthog.conversion.spans.feature_rules import FeatureRules
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView

__all__ = ["inherit_context"]

_Node = tuple["str | None", Mapping[str, Any]]
_NOTHING: Mapping[str, Any] = {}


def inherit_context(
    views: Sequence[SpanView], others: Iterable[ContextSpan] = (), features: FeatureRules | None = None
) -> None:
    """Put onto each span, in its attributes, what the spans above it share with those below.

    `others` are spans that are no concern of ours. A span that is not among these hands nothing down.
    `features` tell the feature of a span that says none itself.
    """
    nodes: dict[tuple[str, str], _Node] = {
        (other.trace_id, other.span_id): (other.parent_id, other.attributes) for other in others
    }
    nodes.update({(view.trace_id, view.span_id): (view.parent_id, view.attributes) for view in views})
    shared: dict[tuple[str, str], Mapping[str, Any]] = {}
    for view in views:
        own, above = view.attributes, _NOTHING
        if view.parent_id is not None:
            above = _shared_by(view.trace_id, view.parent_id, nodes, shared, features)
        if features is not None and not says(above, FEATURE) and (found := features.feature_of(own)):
            above = {**above, FEATURE: found}
        if above:
            own.update([(name, value) for name, value in above.items() if not says(own, name)])


def _shared_by(
    trace_id: str,
    span_id: str,
    nodes: Mapping[tuple[str, str], _Node],
    shared: dict[tuple[str, str], Mapping[str, Any]],
    features: FeatureRules | None,
) -> Mapping[str, Any]:
    """What a span hands down, with what is handed down to it."""
    climbed: list[tuple[tuple[str, str], Mapping[str, Any]]] = []
    step: str | None = span_id
    above = _NOTHING
    while step is not None:
        key = (trace_id, step)
        known = shared.get(key)
        if known is not None:
            above = known
            break
        node = nodes.get(key)
        if node is None:
            break
        shared[key] = _NOTHING  # where it is its own ancestor
        climbed.append((key, node[1]))
        step = node[0]
    for key, attributes in reversed(climbed):
        own = {name: value for name, value in above.items() if not says(attributes, name)}
        own.update(inherited(attributes))
        if features is not None and not says(own, FEATURE) and (found := features.feature_of(attributes)):
            own[FEATURE] = found
        above = shared[key] = own
    return above
