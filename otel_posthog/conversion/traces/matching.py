"""Whether two spans show one call: nothing that they report contradicts it."""

from __future__ import annotations

import re

from otel_posthog.conversion.model_call import ModelCall, Usage
from otel_posthog.conversion.traces.history import CallOrRecent, RecentSpan

__all__ = ["NEAR_NS", "agree", "are_twins", "is_attempt", "may_be_one", "model_id", "overlap"]

NEAR_NS = 50_000_000
"""Two wrappers of one request begin at most this far apart."""
SLACK_NS = 5_000_000
"""An inner span may end this much later than an outer one that does not wait for it."""

_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_FIRST_WORD = re.compile(r"[^-_]*")
_IS_INVENTED = re.compile(r"^__|^resp_bGl0ZWxsb")  # LiteLLM encodes its own data behind `resp_`
_VERSION = re.compile(r"(?:[-@:]+(?:latest|preview|exp|v?\d[\d.]*))+[-:]*")  # one way to read each text


def agree(one: CallOrRecent, other: CallOrRecent) -> bool:
    """Whether kind, response id, model and tokens of two spans allow that they show one call."""
    if one.kind is not other.kind:
        return False
    mine, theirs = one.response_id, other.response_id
    if mine is not None and theirs is not None:
        if mine == theirs:
            return True
        # A library may invent an id (`__fake_id__`, `resp_bGl0ZWxs`), which tells nothing about another's.
        return (
            _form(mine) != _form(theirs) and _same_model(one, other) and _same_tokens(one.usage, other.usage)
        )
    return _same_model(one, other) or _same_tokens(one.usage, other.usage)


def _form(response_id: str) -> tuple[str, bool]:
    """Return what ids of one maker have in common: the word before the first - or _, or that it is a uuid."""
    if _UUID.fullmatch(response_id):
        return "uuid", True
    return _FIRST_WORD.match(response_id)[0], _IS_INVENTED.search(response_id) is not None  # type: ignore[index]


def overlap(one: CallOrRecent, other: CallOrRecent) -> bool:
    """Whether both spans ran at some moment."""
    if one.end_ns is None or other.end_ns is None:
        return False
    return one.start_ns < other.end_ns and other.start_ns < one.end_ns


def are_twins(one: CallOrRecent, other: CallOrRecent) -> bool:
    """Whether two spans of different scopes, neither within the other, show one call."""
    if one.scope == other.scope or not overlap(one, other):
        return False
    if one.trace_id != other.trace_id and _are_of_different_services(one, other):
        return False
    if one.response_id is None or one.response_id != other.response_id:
        outer, inner = (one, other) if _outer_first(one) <= _outer_first(other) else (other, one)
        if inner.start_ns - outer.start_ns > NEAR_NS or (inner.end_ns or 0) > (outer.end_ns or 0) + SLACK_NS:
            return False
    return agree(one, other)  # last, because it takes the most time


def _are_of_different_services(one: CallOrRecent, other: CallOrRecent) -> bool:
    """Whether both report a service, and not the same one: a cache may give two services one response."""
    mine, theirs = _service(one), _service(other)
    return mine is not None and theirs is not None and mine != theirs


def _service(span: CallOrRecent) -> str | None:
    name = span.resource.get("service.name")
    # SDKs call a service without a name so; another instrumentor in the same process may know the name.
    return None if name is None or name.startswith("unknown_service") else name


def _outer_first(span: CallOrRecent) -> tuple[int, int]:
    return span.start_ns, -(span.end_ns or 0)


def is_attempt(outer: CallOrRecent, inner: CallOrRecent) -> bool:
    """Whether the inner span is a failed attempt inside a successful span of the same scope."""
    return outer.scope == inner.scope and _failed(inner) and not _failed(outer)


def _failed(span: CallOrRecent) -> bool:
    return span.failed if isinstance(span, RecentSpan) else span.error is not None


def may_be_one(outer: ModelCall, inner: ModelCall) -> bool:
    """Whether two spans that have not ended, nested or siblings, seem to show one call."""
    return outer.kind.is_model_call and outer.scope != inner.scope and agree(outer, inner)


def _same_model(one: CallOrRecent, other: CallOrRecent) -> bool:
    mine = {model_id(name) for name in (one.request_model, one.response_model) if name}
    theirs = {model_id(name) for name in (other.request_model, other.response_model) if name}
    if not mine or not theirs:
        return True
    return any(a == b or _is_dated(a, b) or _is_dated(b, a) for a in mine for b in theirs)


def _is_dated(name: str, undated: str) -> bool:
    """Whether `name` is `undated` and a date or version: `gpt-5.1-2025-11-13`, `gemini-3-pro-001`."""
    return name.startswith(undated) and _VERSION.fullmatch(name, len(undated)) is not None


def model_id(model: str) -> str:
    """Return the model without provider or path: `openai/gpt-5.1`, `models/gemini-3-pro`."""
    return model.rpartition("/")[2].lower()


def _same_tokens(one: Usage, other: Usage) -> bool:
    return (
        one.input is not None
        and one.output is not None
        and (one.input, one.output) == (other.input, other.output)
    )
