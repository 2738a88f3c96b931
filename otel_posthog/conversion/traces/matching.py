"""Whether two spans show one call: nothing that they say speaks against it."""

from __future__ import annotations

import re

from otel_posthog.conversion.model_call import ModelCall, Usage
from otel_posthog.conversion.traces.history import CallOrRecent, RecentSpan

__all__ = ["NEAR_NS", "agree", "are_twins", "is_attempt", "may_be_one", "overlap"]

NEAR_NS = 50_000_000
"""Two wrappers around one request begin this close to each other."""
SLACK_NS = 5_000_000
"""An inner span may end a little after an outer one that does not wait for it."""

_VERSION = re.compile(r"(?:[-@:]+(?:latest|preview|exp|v?\d[\d.]*))+[-:]*")  # one way to read each text


def agree(one: CallOrRecent, other: CallOrRecent) -> bool:
    """Whether nothing that both spans say speaks against their showing one call."""
    if one.kind is not other.kind:
        return False
    if one.response_id is not None and other.response_id is not None:
        return one.response_id == other.response_id
    return _same_model(one, other) or _same_tokens(one.usage, other.usage)


def overlap(one: CallOrRecent, other: CallOrRecent) -> bool:
    """Whether there was a moment in which both were under way."""
    if one.end_ns is None or other.end_ns is None:
        return False
    return one.start_ns < other.end_ns and other.start_ns < one.end_ns


def are_twins(one: CallOrRecent, other: CallOrRecent) -> bool:
    """Whether two spans of different scopes, neither within the other, show one call."""
    if one.scope == other.scope or not overlap(one, other):
        return False
    if one.trace_id != other.trace_id and _are_of_two_services(one, other):
        return False
    if one.response_id is None or one.response_id != other.response_id:
        outer, inner = (one, other) if _outer_first(one) <= _outer_first(other) else (other, one)
        if inner.start_ns - outer.start_ns > NEAR_NS or (inner.end_ns or 0) > (outer.end_ns or 0) + SLACK_NS:
            return False
    return agree(one, other)  # last, for it is what takes time


def _are_of_two_services(one: CallOrRecent, other: CallOrRecent) -> bool:
    """Whether both say which service they are of, and not the same: a cache gives both one answer."""
    mine, theirs = _service(one), _service(other)
    return mine is not None and theirs is not None and mine != theirs


def _service(span: CallOrRecent) -> str | None:
    name = span.resource.get("service.name")
    # What SDKs call a service that was given no name; other instrumentations of it may know better.
    return None if name is None or name.startswith("unknown_service") else name


def _outer_first(span: CallOrRecent) -> tuple[int, int]:
    return span.start_ns, -(span.end_ns or 0)


def is_attempt(outer: CallOrRecent, inner: CallOrRecent) -> bool:
    """Whether the inner span is a try that failed, of one instrumentor, inside of what worked in the end."""
    return outer.scope == inner.scope and _failed(inner) and not _failed(outer)


def _failed(span: CallOrRecent) -> bool:
    return span.failed if isinstance(span, RecentSpan) else span.error is not None


def may_be_one(outer: ModelCall, inner: ModelCall) -> bool:
    """Whether two spans under way, one within or beside the other, seem to show one call."""
    return outer.kind.is_model_call and outer.scope != inner.scope and agree(outer, inner)


def _same_model(one: CallOrRecent, other: CallOrRecent) -> bool:
    mine = {_plain(name) for name in (one.request_model, one.response_model) if name}
    theirs = {_plain(name) for name in (other.request_model, other.response_model) if name}
    if not mine or not theirs:
        return True
    return any(a == b or _is_dated(a, b) or _is_dated(b, a) for a in mine for b in theirs)


def _is_dated(name: str, plain: str) -> bool:
    """Whether `name` is `plain` with a date or version behind: `gpt-5.1-2025-11-13`, `gemini-3-pro-001`."""
    return name.startswith(plain) and _VERSION.fullmatch(name, len(plain)) is not None


def _plain(model: str) -> str:
    """The model without who serves it: `openai/gpt-5.1`, `models/gemini-3-pro`."""
    return model.rpartition("/")[2].lower()


def _same_tokens(one: Usage, other: Usage) -> bool:
    return (
        one.input is not None
        and one.output is not None
        and (one.input, one.output) == (other.input, other.output)
    )
