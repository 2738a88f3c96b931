"""`read_call` makes a `ModelCall` of a span: it applies the dialects that the span speaks.

A span speaks a dialect if its scope or a marker attribute belongs to that dialect; it always speaks the GenAI
conventions, since most dialects carry some of them. The more specific dialect decides what the span is, and
its attributes win; of two readings of messages and states the richer wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from otel_posthog.conversion.call_builder import build_call
from otel_posthog.conversion.context_attributes import PARENT_ID, is_inherited
from otel_posthog.conversion.dialects import DIALECTS, index_for
from otel_posthog.conversion.model_call import Kind, ModelCall
from otel_posthog.conversion.readers.rule_table import Complete, Parts, Plan, apply, plan_of
from otel_posthog.conversion.spans.genai_detection import NO_SIGNATURE, SIGNATURES
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["read_call"]

_MAX_READINGS = 1024
_MAX_NAMES = 128
"""Spans with more attributes than this hardly share their names with others."""
_MAX_LETTERS = 16 * 1024
"""Characters of all names of a span whose reading is cached: a name that OTLP brings may be huge."""


class _Reading(NamedTuple):
    """How to read spans of one scope with the same attribute names; spans of one call site have the same."""

    plan: Plan
    complete: tuple[Complete, ...]
    kinds: tuple[Callable[[Parts, SpanView], Kind | None], ...]
    own: Plan | None
    """How to read the context that the application itself gave; None if no other attribute holds context."""


_readings: dict[tuple[str | None, tuple[str, ...]], _Reading] = {}


def read_call(view: SpanView) -> ModelCall:
    """Return the call that a GenAI span shows. No attribute value makes it raise."""
    names = tuple(view.attributes)
    reading = _readings.get((view.scope, names)) or _reading(view.scope, names)
    parts = apply(reading.plan, view.attributes)
    for complete in reading.complete:
        complete(parts, view)
    for kind_of in reading.kinds:
        kind = kind_of(parts, view)
        if kind is not None:
            return build_call(view, kind, parts, reading.own)
    return build_call(view, Kind.SPAN, parts, reading.own)


def _reading(scope: str | None, names: tuple[str, ...]) -> _Reading:
    present = frozenset(names)
    dialects = [
        dialect
        for dialect in DIALECTS
        if dialect.name == "genai"
        or not SIGNATURES.get(dialect.name, NO_SIGNATURE).markers.isdisjoint(present)
        or _has_scope(dialect.name, scope or "")
    ]
    plan = plan_of(index_for(tuple(dialect.name for dialect in dialects)), names)
    own = [name for name in names if name == PARENT_ID or is_inherited(name)]
    reading = _Reading(
        plan,
        tuple(dialect.complete for dialect in dialects if dialect.complete is not None),
        tuple(dialect.kind_of for dialect in dialects),
        plan_of(index_for(("genai",)), own) if _holds_more_context(plan, present, own) else None,
    )
    if len(names) <= _MAX_NAMES and sum(map(len, (scope or "", *names))) <= _MAX_LETTERS:
        if len(_readings) >= _MAX_READINGS:
            _readings.clear()
        _readings[scope, names] = reading
    return reading


_CONTEXT_PARTS = frozenset({"context", "properties", "groups", "flags"})
_METADATA = frozenset({"metadata"})
"""No rule names this attribute, and dialects read context from it."""


def _holds_more_context(plan: Plan, names: frozenset[str], own: Iterable[str]) -> bool:
    """Whether attributes other than the application's `own` are read as context."""
    context_names = {
        name for name, part, *_ in (*plan.texts, *plan.others, *plan.contested) if part in _CONTEXT_PARTS
    }
    return not context_names.issubset(own) or not _METADATA.isdisjoint(names)


@lru_cache(maxsize=1024)
def _has_scope(dialect: str, scope: str) -> bool:
    pattern = SIGNATURES.get(dialect, NO_SIGNATURE).scopes
    return pattern is not None and pattern.match(scope) is not None
