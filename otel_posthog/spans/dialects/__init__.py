"""A span is read by the dialect it speaks: `read(view)` picks it and makes the `ModelCall`.

The rule: OpenLLMetry where the scope or a marker attribute of its own says so, the GenAI conventions
for all else. Its table contains theirs, so a span that carries both loses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from otel_posthog.attributes import CONTEXT
from otel_posthog.calls import NO_CONTEXT, NO_USAGE, CallContext, CallError, Kind, Message, ModelCall, Usage
from otel_posthog.spans.dialects import genai, openllmetry
from otel_posthog.spans.dialects.rules import Parts, apply
from otel_posthog.spans.providers import provider_name
from otel_posthog.spans.values import count, finish_reason, text
from otel_posthog.spans.view import SpanView

__all__ = ["read"]

_OPENLLMETRY_MARKERS = frozenset(
    {
        "llm.request.type",
        "traceloop.span.kind",
        "traceloop.entity.name",
        "gen_ai.prompt.0.role",
        "gen_ai.prompt.0.content",
        "gen_ai.completion.0.content",
        "gen_ai.is_streaming",
    }
)
_OPENLLMETRY_SCOPES = re.compile(
    r"^(?:opentelemetry\.instrumentation\.(?!genai|openai_v2|google_genai|vertexai)|@?traceloop)"
)

_STATUS_IN_TEXT = re.compile(
    r"\b(?:error code|status(?: code)?|http(?: status)?)[\s:=]*([1-5]\d\d)\b", re.IGNORECASE
)
_ERROR_TYPE = re.compile(r"[^\s{}<>\"']{1,200}\Z")
_RESOURCE = (
    "service.name",
    "service.version",
    "service.namespace",
    "deployment.environment.name",
    "deployment.environment",
)
"""What of a resource is worth a property of every event; the rest describes machines."""


_CONTEXT_NAMES = frozenset(name for names in CONTEXT.values() for name in names)


def read(view: SpanView) -> ModelCall:
    """The call that a span of interest shows. Never raises for what its attributes hold."""
    attributes = view.attributes
    if not _OPENLLMETRY_MARKERS.isdisjoint(attributes) or _is_openllmetry(view.scope or ""):
        parts = apply(openllmetry.TABLE, attributes)
        openllmetry.complete(parts, attributes)
        kind = openllmetry.kind_of(parts)
    else:
        parts = apply(genai.TABLE, attributes)
        kind = genai.kind_of(parts)
    return _call(view, kind, parts)


@lru_cache(maxsize=256)
def _is_openllmetry(scope: str) -> bool:
    return _OPENLLMETRY_SCOPES.match(scope) is not None


def _in_order(made: Any, first: str, last: str) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    names = made._fields[made._fields.index(first) : made._fields.index(last) + 1]
    return names, tuple(made._field_defaults[name] for name in names)


# A named tuple is made of values in order in a third of the time that names take; this is its `_make`
# without the check of their number.
_new = tuple.__new__
_CALL = _in_order(ModelCall, "provider", "cost_usd")
_USAGE = _in_order(Usage, "input", "searches")
_CONTEXT = _in_order(CallContext, "distinct_id", "flags")


def _call(view: SpanView, kind: Kind, parts: Parts) -> ModelCall:
    call, facts, usage = parts["call"], parts["facts"], parts["usage"]
    take = call.pop
    system, address, port = take("system", None), take("address", None), take("port", None)
    if system is not None:
        call["input"] = [*system, *call.get("input", ())]
    if address is not None and "base_url" not in call:
        call["base_url"] = _base_url(address, port)
    output = call.get("output")
    if output is not None:
        call["tools_called"] = _called(output)
        if "finish_reasons" not in call:
            call["finish_reasons"] = _reasons_of(output)
    if "provider" in call:
        call["provider"] = provider_name(call["provider"])
    if "cache_read" in usage or "cache_write" in usage:
        # The conventions count cache tokens into the input; fewer than their own part were not.
        cached = usage.get("cache_read", 0) + usage.get("cache_write", 0)
        usage["cache_exclusive"] = usage.get("input", 0) < cached
    operation, name = take("operation", None) or kind.label, view.name
    if not _NAMES.isdisjoint(call):
        name = _take_names(call, facts, name if kind.is_model_call else None) or name
    return _new(
        ModelCall,
        (
            kind,
            operation,
            name,
            view.trace_id,
            view.span_id,
            view.parent_id,
            view.start_ns,
            view.end_ns,
            *map(call.get, *_CALL),
            parts["parameters"],
            facts,
            _new(Usage, map(usage.get, *_USAGE)) if usage else NO_USAGE,
            _error(view, parts["error"]),
            _context(parts, view.resource),
            view.scope,
            _described(view.resource),
        ),
    )


_NAMES = frozenset(
    {"prompt_name", "prompt_version", "tool_name", "agent_name", "workflow_name", "entity_name"}
)


def _take_names(call: dict[str, Any], facts: dict[str, Any], name: str | None) -> str | None:
    """Take names out of `call`; what has no `name` goes by its own: the tool's before its agent's."""
    for key in ("prompt_name", "prompt_version"):
        if key in call:
            facts[key] = call.pop(key)
    for key in ("tool_name", "agent_name", "workflow_name", "entity_name"):
        name = name or call.get(key)
        call.pop(key, None)
    return name


def _described(resource: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name in _RESOURCE if name in resource and (value := text(resource[name]))}


_SCHEMES = {443: "https://", 80: "http://"}


def _base_url(address: str, port: int | None) -> str:
    """Where the request went, as far as was said: a scheme is not made up for an unusual port."""
    if "://" in address or port is None:
        return address
    scheme = _SCHEMES.get(port)
    return scheme + address if scheme else f"{address}:{port}"


def _reasons_of(output: Iterable[Message]) -> list[str]:
    """The deprecated place of finish reasons: in each output message."""
    found = [finish_reason(message.get("finish_reason")) for message in output]
    return [reason for reason in found if reason]


def _called(output: Iterable[Message]) -> list[str]:
    return [
        name
        for message in output
        for part in message["parts"]
        if isinstance(part, dict) and part.get("type") == "tool_call" and (name := text(part.get("name")))
    ]


def _error(view: SpanView, reported: Mapping[str, Any]) -> CallError | None:
    """A status of ERROR, or an `error.type`, which the conventions set on failed operations only."""
    kind = reported.get("type")
    if view.status != "ERROR" and kind is None:
        return None
    message: str | None = view.status_message
    status = reported.get("http_status")
    for event in view.events:
        if event.name == "exception":
            kind = kind or text(event.attributes.get("exception.type"))
            said = event.attributes.get("exception.message")
            message = said if said and isinstance(said, str) else message
            status = status or count(event.attributes.get("http.response.status_code"))
    if kind is not None and not _ERROR_TYPE.match(kind):
        # A sentence where a class or code belongs may quote the prompt: it counts as content.
        kind, message = "_OTHER", message or kind
    if status is None and kind is not None and kind.isdecimal():
        status = int(kind)
    if status is None and (match := _STATUS_IN_TEXT.search((message or "")[:1000])):
        status = int(match[1])
    return CallError(
        type=kind,
        message=message,
        http_status=status if status is not None and 100 <= status <= 599 else None,
    )


def _context(parts: Parts, resource: Mapping[str, Any]) -> CallContext:
    context = parts["context"]
    if not _CONTEXT_NAMES.isdisjoint(resource):  # the last place to look: a worker of one feature or tenant
        for field, value in apply(genai.TABLE, resource)["context"].items():
            context.setdefault(field, value)
    for part in ("groups", "properties", "flags"):
        if parts[part]:
            context[part] = parts[part]
    return _new(CallContext, map(context.get, *_CONTEXT)) if context else NO_CONTEXT
