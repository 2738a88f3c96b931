"""`build_call` makes a `ModelCall` of the parts that dialects read from a span."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from otel_posthog.conversion.context_attributes import CONTEXT, PROPERTY
from otel_posthog.conversion.dialects import index_for
from otel_posthog.conversion.model_call import (
    NO_CONTEXT,
    NO_USAGE,
    CallContext,
    CallError,
    Kind,
    Message,
    ModelCall,
    Usage,
)
from otel_posthog.conversion.readers.attribute_values import count, finish_reason, text
from otel_posthog.conversion.readers.providers import provider_at, provider_name
from otel_posthog.conversion.readers.rule_table import Parts, Plan, apply, plan_of
from otel_posthog.conversion.readers.token_usage import settle
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["build_call"]

_RESERVED = frozenset({"token", "api_key", "distinct_id"})
"""Properties by which PostHog's capture decides which project and person an event belongs to."""

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
"""Resource attributes that become properties of every event; the others describe machines."""

_CONTEXT_NAMES = frozenset(name for names in CONTEXT.values() for name in names)


def _fields(record: Any, first: str, last: str) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Return names and defaults of the fields from `first` to `last`."""
    names = record._fields[record._fields.index(first) : record._fields.index(last) + 1]
    return names, tuple(record._field_defaults[name] for name in names)


# `tuple.__new__` builds a named tuple from values in order in a third of the time that names take; it is
# `_make` without the check of their number.
_new = tuple.__new__
_CALL = _fields(ModelCall, "provider", "evaluations")
_USAGE = _fields(Usage, "input", "searches")
_CONTEXT = _fields(CallContext, "distinct_id", "own")
_CHAT, _CONVERSATION = CONTEXT["chat_id"][0], CONTEXT["conversation_id"][0]


def build_call(view: SpanView, kind: Kind, parts: Parts, own: Plan | None) -> ModelCall:
    """Return the call of a span of this kind. `parts` is used up.

    `own` reads the context that the application itself gave, if other attributes hold context as well.
    """
    call, details, usage = parts["call"], parts["details"], parts["usage"]
    pop = call.pop
    system, address, port = pop("system", None), pop("address", None), pop("port", None)
    if system is not None:
        call["input"] = _with_system(system, call.get("input", ()))
    if address is not None and "base_url" not in call:
        call["base_url"] = _base_url(address, port)
    output = call.get("output")
    if output is not None:
        if called := _called(output):
            call["tools_called"] = called
        if "finish_reasons" not in call:
            call["finish_reasons"] = _reasons_of(output)
    if "provider" in call:
        call["provider"] = provider_name(call["provider"])
    elif kind.is_model_call and view.scope is not None:
        call["provider"] = _provider_of(view.scope)
    if "base_url" in call and kind.is_model_call:
        call["provider"] = provider_at(call.get("provider"), call["base_url"])
    if "time_to_first_token" in call:
        call.setdefault("stream", True)
        _settle_first_token(call, view)
    if "input_cost_usd" in call or "output_cost_usd" in call:
        _settle_cost(call)
    if usage:
        settle(usage, call.get("provider"), view.scope, view.attributes)
    operation, name = pop("operation", None) or kind.label, view.name
    if not _NAMES.isdisjoint(call):
        name = _pop_names(call, details, name if kind.is_model_call else None) or name
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
            [trace for trace, _ in view.links if trace != view.trace_id] if view.links else (),
            parts["parameters"],
            details,
            _new(Usage, map(usage.get, *_USAGE)) if usage else NO_USAGE,
            _error(view, parts["error"]),
            _context(parts, view.attributes, view.resource, own),
            view.scope,
            _resource(view.resource),
        ),
    )


def _settle_first_token(call: dict[str, Any], view: SpanView) -> None:
    """Read a time to the first token that is longer than the span as milliseconds; drop it if that is too."""
    if view.end_ns is None or view.end_ns <= view.start_ns:
        return
    duration = (view.end_ns - view.start_ns) / 1e9
    if call["time_to_first_token"] > duration:
        milliseconds = call.pop("time_to_first_token") / 1000
        if milliseconds <= duration:
            call["time_to_first_token"] = milliseconds


def _settle_cost(call: dict[str, Any]) -> None:
    """Raise a reported total to the sum of its parts, which it cannot be less than."""
    costs = [call[name] for name in ("input_cost_usd", "output_cost_usd") if name in call]
    if len(costs) == 2 and call.get("cost_usd", 0.0) < sum(costs):
        call["cost_usd"] = round(sum(costs), 12)


_OWN_NAMES = ("tool_name", "agent_name", "workflow_name", "entity_name", "written_name", "function_name")
"""Candidates for the name of structure, best first; `written_name` is a sentence that a library composed."""
_NAMES = frozenset({"prompt_name", "prompt_version", *_OWN_NAMES})


def _pop_names(call: dict[str, Any], details: dict[str, Any], name: str | None) -> str | None:
    """Take the names out of `call`; return `name`, else the first of them."""
    for key in ("prompt_name", "prompt_version"):
        if key in call:
            details[key] = call.pop(key)
    for key in _OWN_NAMES:
        candidate = call.pop(key, None)
        name = name or candidate
        if candidate and key != "written_name":
            call.setdefault("given_name", candidate)
    return name


@lru_cache(maxsize=256)
def _provider_of(scope: str) -> str | None:
    """Return the provider that an instrumentor is for, by the last word of its scope."""
    for word in reversed(scope.lower().replace("-", "_").split(".")):
        if word in _INSTRUMENTED:
            return provider_name(_INSTRUMENTED[word])
    return None


_INSTRUMENTED = {
    "openai": "openai",
    "google_genai": "google",
    "google_generativeai": "google",
    "vertexai": "vertex",
    "anthropic": "anthropic",
    "bedrock": "bedrock",
    "mistralai": "mistral",
    "groq": "groq",
    "cohere": "cohere",
    "together": "together",
    "ollama": "ollama",
}


def _with_system(system: list[Message], messages: Iterable[Message]) -> list[Message]:
    """Return the messages after the instructions, which may already be the first of them."""
    chat = [*messages]
    return chat if chat[: len(system)] == system else [*system, *chat]


_MAX_RESOURCES = 64
_resources: dict[int, tuple[Mapping[str, Any], Mapping[str, str]]] = {}


def _resource(resource: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the attributes of a resource that go onto events.

    The cache is keyed by identity: all spans of a provider share one resource.
    """
    cached = _resources.get(id(resource))
    if cached is None or cached[0] is not resource:
        kept = {name: value for name in _RESOURCE if name in resource and (value := text(resource[name]))}
        if not _is_small(resource):
            return kept
        if len(_resources) >= _MAX_RESOURCES:
            _resources.clear()
        cached = _resources[id(resource)] = (resource, kept)
    return cached[1]


def _is_small(resource: Mapping[str, Any]) -> bool:
    """Whether the resource may be cached: one that OTLP brought may be as large as a request."""
    sizes = (
        len(name) + (len(value) if isinstance(value, str | bytes | list | dict) else 0)
        for name, value in resource.items()
    )
    return len(resource) < 1000 and sum(sizes) < 64 * 1024


_SCHEMES = {443: "https://", 80: "http://"}


@lru_cache(maxsize=256)
def _base_url(address: str, port: int | None) -> str:
    """Return the URL of the server, without a scheme if the port is unusual."""
    if "://" in address or port is None:
        return address
    scheme = _SCHEMES.get(port)
    return scheme + address if scheme else f"{address}:{port}"


def _reasons_of(output: Iterable[Message]) -> list[str]:
    """Return the finish reasons from their deprecated place, in each output message."""
    reasons = [finish_reason(message.get("finish_reason")) for message in output]
    return [reason for reason in reasons if reason]


def _called(output: Iterable[Message]) -> list[str]:
    return [
        name
        for message in output
        for part in message["parts"]
        if isinstance(part, dict) and part.get("type") == "tool_call" and (name := text(part.get("name")))
    ]


def _error(view: SpanView, reported: Mapping[str, Any]) -> CallError | None:
    """Return the error of a span with the status ERROR or an `error.type`, else None.

    The conventions set `error.type` on failed operations only.
    """
    kind = reported.get("type")
    if view.status != "ERROR" and kind is None:
        return None
    message: str | None = view.status_message or reported.get("message")
    status = reported.get("http_status")
    for event in view.events:
        if event.name == "exception":
            kind = kind or text(event.attributes.get("exception.type"))
            exception_message = event.attributes.get("exception.message")
            if exception_message and isinstance(exception_message, str):
                message = exception_message
            status = status or count(event.attributes.get("http.response.status_code"))
    if kind is not None and not _ERROR_TYPE.match(kind):
        # A sentence instead of a class or code may quote the prompt: it counts as content.
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


def _context(
    parts: Parts, attributes: Mapping[str, Any], resource: Mapping[str, Any], own: Plan | None = None
) -> CallContext:
    context = parts["context"]
    if parts["properties"]:
        parts["properties"] = _without_reserved(parts["properties"], attributes)
    if resource and not _CONTEXT_NAMES.isdisjoint(resource):  # such as a worker of one feature or tenant
        for field, value in apply(plan_of(index_for(("genai",)), resource), resource)["context"].items():
            context.setdefault(field, value)
    for part in ("groups", "properties", "flags"):
        if parts[part]:
            context[part] = parts[part]
    if _CHAT in attributes and _CONVERSATION not in attributes and "chat_id" in context:
        context["conversation_id"] = context["chat_id"]  # libraries invent ids of conversations
    if own is not None and context:
        context["own"] = _context(apply(own, attributes), attributes, resource)
    return _new(CallContext, map(context.get, *_CONTEXT)) if context else NO_CONTEXT


def _without_reserved(properties: dict[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties without names that mean something to PostHog, unless the application gave them.

    A library's metadata may be called `$ai_input`, `$set` or `token`: it would pass for a value of ours, and
    escape the rules that hide content.
    """
    return {
        name: value
        for name, value in properties.items()
        if not (name.startswith("$") or name in _RESERVED)
        or name.startswith("$feature/")
        or PROPERTY + name in attributes
    }
