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
from otel_posthog.calls import NO_USAGE, CallContext, CallError, Kind, Message, ModelCall, Usage
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


def _call(view: SpanView, kind: Kind, parts: Parts) -> ModelCall:
    read = parts["call"].pop
    output: list[Message] = read("output", [])
    names = (
        read("tool_name", None),
        read("agent_name", None),
        read("workflow_name", None),
        read("entity_name", None),
    )
    facts = parts["facts"]
    for key in ("prompt_name", "prompt_version"):
        if value := read(key, None):
            facts[key] = value
    return ModelCall(
        kind=kind,
        operation=read("operation", None) or kind.value,
        name=_name(view.name, kind, names),
        trace_id=view.trace_id,
        span_id=view.span_id,
        parent_id=view.parent_id,
        start_ns=view.start_ns,
        end_ns=view.end_ns,
        provider=provider_name(read("provider", None)),
        request_model=read("request_model", None),
        response_model=read("response_model", None),
        response_id=read("response_id", None),
        base_url=_base_url(read("base_url", None), read("address", None), read("port", None)),
        stream=read("stream", None),
        time_to_first_token=read("time_to_first_token", None),
        parameters=parts["parameters"],
        usage=Usage(**parts["usage"]) if parts["usage"] else NO_USAGE,
        finish_reasons=read("finish_reasons", None) or _reasons_of(output),
        input=[*read("system", ()), *read("input", ())],
        output=output,
        embedded=read("embedded", None),
        tools=read("tools", ()),
        tools_called=list(_called(output)),
        input_state=read("input_state", None),
        output_state=read("output_state", None),
        facts=facts,
        error=_error(view, parts["error"]),
        context=_context(parts, view.resource),
        scope=view.scope,
        scope_version=view.scope_version,
        resource={
            name: value
            for name in _RESOURCE
            if name in view.resource and (value := text(view.resource[name]))
        },
        cost_usd=read("cost_usd", None),
    )


def _described(resource: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name in _RESOURCE if name in resource and (value := text(resource[name]))}


def _name(span_name: str, kind: Kind, names: Iterable[str | None]) -> str:
    """A tool or an agent goes by its own name, a call by its span's."""
    return span_name if kind.is_model_call else next((name for name in names if name), span_name)


def _base_url(url: str | None, address: str | None, port: int | None) -> str | None:
    """Where the request went, as far as was said: a scheme is not made up for an unusual port."""
    if url or not address:
        return url
    if "://" in address or port is None:
        return address
    scheme = {443: "https://", 80: "http://"}.get(port)
    return scheme + address if scheme else f"{address}:{port}"


def _reasons_of(output: Iterable[Message]) -> list[str]:
    """The deprecated place of finish reasons: in each output message."""
    found = [finish_reason(message.get("finish_reason")) for message in output]
    return [reason for reason in found if reason]


def _called(output: Iterable[Message]) -> Iterable[str]:
    for message in output:
        for part in message.get("parts", ()):
            if (
                isinstance(part, dict)
                and part.get("type") == "tool_call"
                and (name := text(part.get("name")))
            ):
                yield name


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
            message = text(event.attributes.get("exception.message")) or message
            status = status or count(event.attributes.get("http.response.status_code"))
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
    return CallContext(
        **context, groups=parts["groups"], properties=parts["properties"], flags=parts["flags"]
    )
