"""One call, merged from two spans that show it."""

from __future__ import annotations

from typing import Any

from otel_posthog.conversion.model_call import NO_CONTEXT, CallContext, ModelCall, Usage, richness
from otel_posthog.conversion.traces.matching import model_id

__all__ = ["merge"]

_NOT_MERGED = frozenset(
    {"kind", "operation", "name", "trace_id", "span_id", "parent_id", "start_ns", "end_ns", "scope"}
    | {"ended_after", "may_go_on"}
)
_RICH = ("input", "output", "tools", "tools_called", "finish_reasons")
_LISTS = ("evaluations", "linked_traces")
_MAPPINGS = ("parameters", "details", "resource")


def merge(outer: ModelCall, inner: ModelCall) -> ModelCall:
    """Return one call: kind, name, ids and times of the outer span, details of both; the outer one's win."""
    changes: dict[str, Any] = {}
    for name in outer._fields:
        mine, theirs = getattr(outer, name), getattr(inner, name)
        if name in _NOT_MERGED or theirs is None or mine == theirs:
            continue
        if name == "usage":
            changes[name] = _merged_usage(mine, theirs)
        elif name == "context":
            changes[name] = _merged_context(mine, theirs)
        elif name in _MAPPINGS:
            changes[name] = {**theirs, **mine}
        elif name in _LISTS:
            changes[name] = [*mine, *(each for each in theirs if each not in mine)]
        elif name in _RICH:
            if richness(theirs) > richness(mine):
                changes[name] = theirs
        elif mine is None:
            changes[name] = theirs
    if inner.provider is not None and inner.base_url is not None:
        changes["provider"] = inner.provider  # it made the request; a framework may report its own name
    if inner.response_model is not None and _is_requested(outer, inner):
        changes["response_model"] = inner.response_model
    if outer.error is not None and inner.error is not None:
        changes["error"] = outer.error._replace(
            type=outer.error.type or inner.error.type,
            message=outer.error.message or inner.error.message,
            http_status=outer.error.http_status or inner.error.http_status,
        )
    if outer.error is None and outer.usage.output and not inner.usage.output:
        changes.pop("error", None)  # a response arrived nevertheless
    if outer.stream or inner.stream:
        changes["stream"] = True
    return outer._replace(**changes)


def _is_requested(outer: ModelCall, inner: ModelCall) -> bool:
    """Whether the outer span reports the requested model as the response's, as some instrumentors do."""
    if outer.response_model is None:
        return False
    requested = {model_id(name) for name in (outer.request_model, inner.request_model) if name}
    return model_id(outer.response_model) in requested


def _merged_usage(mine: Usage, theirs: Usage) -> Usage:
    """Return the counts of both; if they differ, those that add up to their total win, else the larger."""
    if _adds_up(mine) != _adds_up(theirs):
        base, more = (mine, theirs) if _adds_up(mine) else (theirs, mine)
    else:
        base, more = (theirs, mine) if (theirs.input or 0) > (mine.input or 0) else (mine, theirs)
    base_wins = _adds_up(base)
    counts: dict[str, int] = {}
    for name in base._fields:
        both = [count for count in (getattr(base, name), getattr(more, name)) if count is not None]
        if both and name != "cache_exclusive":
            counts[name] = both[0] if base_wins else max(both)
    exclusive = base.cache_exclusive if base.cache_exclusive is not None else more.cache_exclusive
    return Usage(**counts, cache_exclusive=exclusive)


def _adds_up(usage: Usage) -> bool:
    return usage.total is not None and usage.total == (usage.input or 0) + (usage.output or 0)


def _merged_context(mine: CallContext, theirs: CallContext) -> CallContext:
    if theirs is NO_CONTEXT:
        return mine
    merged = {
        name: value if value is not None else getattr(theirs, name) for name, value in mine._asdict().items()
    }
    for name in ("groups", "properties", "flags"):
        merged[name] = {**getattr(theirs, name), **getattr(mine, name)}
    merged["parent_id"] = mine.parent_id
    merged["privacy_mode"] = mine.privacy_mode or theirs.privacy_mode
    if mine.own is not None or theirs.own is not None:
        merged["own"] = _merged_context(mine.own or mine, theirs.own or theirs)
    return CallContext(**merged)
