"""A span is read by the dialects it speaks: `read(view)` picks them and makes the `ModelCall`.

A dialect is spoken where the scope or a marker attribute of its own says so; the GenAI conventions always
are, since most dialects carry some of them. The special one is asked first what the span is, and its names
win; of messages and states the richer wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from otel_posthog.conversion.context_attributes import CONTEXT, PARENT_ID, PROPERTY, is_inherited
from otel_posthog.conversion.dialects import (
    adk,
    genai,
    langfuse,
    langsmith,
    litellm,
    openinference,
    openllmetry,
    pydantic_ai,
    vercel,
)
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
from otel_posthog.conversion.readers.providers import provider_name
from otel_posthog.conversion.readers.rule_table import (
    Complete,
    Dialect,
    Index,
    Parts,
    Plan,
    apply,
    index_of,
    plan_of,
)
from otel_posthog.conversion.readers.token_usage import settle
from otel_posthog.conversion.spans.genai_detection import DIALECT_MARKERS
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["DIALECTS", "read"]

DIALECTS: tuple[Dialect, ...] = (
    vercel.DIALECT,
    langfuse.DIALECT,
    langsmith.DIALECT,
    adk.DIALECT,
    openinference.DIALECT,
    litellm.DIALECT,
    openllmetry.DIALECT,
    pydantic_ai.DIALECT,
    genai.DIALECT,
)
"""In the order in which they are asked."""

_SCOPES = {
    "adk": re.compile(r"^gcp\.vertex\.agent$"),
    "litellm": re.compile(r"^litellm"),
    "vercel": re.compile(r"^(?:ai|gen_ai)$"),
    "langfuse": re.compile(r"^langfuse"),
    "openinference": re.compile(r"^openinference\.|^@arizeai/openinference"),
    "openllmetry": re.compile(
        r"^(?:opentelemetry\.instrumentation\.(?!genai|openai_v2|google_genai|vertexai|anthropic_v2)|@?traceloop)"
    ),
    "pydantic_ai": re.compile(r"^(?:pydantic[-_]ai|logfire)"),
}
"""Scopes that speak a dialect also without a marker of its own."""

_RESERVED = frozenset({"token", "api_key", "distinct_id"})
"""Whose event it is and where it goes, to PostHog's capture."""

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
_MAX_READINGS = 1024
_MAX_NAMES = 128
"""Spans with more attributes than this hardly share their names with others."""
_MAX_LETTERS = 16 * 1024
"""Of all names of a span whose reading is remembered: names that OTLP brings may be as long as a request."""


class _Reading(NamedTuple):
    """How spans of one scope with the same names of attributes are read; those of one call site are such."""

    plan: Plan
    complete: tuple[Complete, ...]
    kinds: tuple[Callable[[Parts, SpanView], Kind | None], ...]
    own: Plan | None
    """How to read what the application said of the context itself; None where nobody else says any of it."""


_readings: dict[tuple[str | None, tuple[str, ...]], _Reading] = {}


def read(view: SpanView) -> ModelCall:
    """The call that a span of interest shows. Never raises for what its attributes hold."""
    names = tuple(view.attributes)
    reading = _readings.get((view.scope, names)) or _reading(view.scope, names)
    parts = apply(reading.plan, view.attributes)
    for complete in reading.complete:
        complete(parts, view)
    for kind_of in reading.kinds:
        kind = kind_of(parts, view)
        if kind is not None:
            return _call(view, kind, parts, reading.own)
    return _call(view, Kind.SPAN, parts, reading.own)


def _reading(scope: str | None, names: tuple[str, ...]) -> _Reading:
    present = frozenset(names)
    spoken = tuple(
        dialect.name
        for dialect in DIALECTS
        if dialect.name == "genai"
        or not DIALECT_MARKERS[dialect.name].isdisjoint(present)
        or _is_of(dialect.name, scope or "")
    )
    dialects = [dialect for dialect in DIALECTS if dialect.name in spoken]
    plan = plan_of(_index(spoken), names)
    own = [name for name in names if _is_own(name)]
    made = _Reading(
        plan,
        tuple(dialect.complete for dialect in dialects if dialect.complete is not None),
        tuple(dialect.kind_of for dialect in dialects),
        plan_of(_index(("genai",)), own) if _says_more(plan, present, own) else None,
    )
    if len(names) <= _MAX_NAMES and sum(map(len, (scope or "", *names))) <= _MAX_LETTERS:
        if len(_readings) >= _MAX_READINGS:
            _readings.clear()
        _readings[scope, names] = made
    return made


_OF_CONTEXT = frozenset({"context", "properties", "groups", "flags"})
_METADATA = frozenset({"metadata"})
"""What no table names, and dialects read context out of."""


def _is_own(name: str) -> bool:
    """Whether it is one of the names under which the application says whose call it is and for what."""
    return name == PARENT_ID or is_inherited(name)


def _says_more(plan: Plan, names: frozenset[str], own: Iterable[str]) -> bool:
    """Whether other attributes than the application's `own` are read as context."""
    read = {name for name, part, *_ in (*plan.texts, *plan.others, *plan.contested) if part in _OF_CONTEXT}
    return not read.issubset(own) or not _METADATA.isdisjoint(names)


@lru_cache(maxsize=256)
def _index(spoken: tuple[str, ...]) -> Index:
    return index_of([dialect for dialect in DIALECTS if dialect.name in spoken])


@lru_cache(maxsize=1024)
def _is_of(dialect: str, scope: str) -> bool:
    pattern = _SCOPES.get(dialect)
    return pattern is not None and pattern.match(scope) is not None


def _in_order(made: Any, first: str, last: str) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    names = made._fields[made._fields.index(first) : made._fields.index(last) + 1]
    return names, tuple(made._field_defaults[name] for name in names)


# A named tuple is made of values in order in a third of the time that names take; this is its `_make`
# without the check of their number.
_new = tuple.__new__
_CALL = _in_order(ModelCall, "provider", "evaluations")
_USAGE = _in_order(Usage, "input", "searches")
_CONTEXT = _in_order(CallContext, "distinct_id", "own")


def _call(view: SpanView, kind: Kind, parts: Parts, own: Plan | None) -> ModelCall:
    call, details, usage = parts["call"], parts["details"], parts["usage"]
    take = call.pop
    system, address, port = take("system", None), take("address", None), take("port", None)
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
    if "time_to_first_token" in call:
        call.setdefault("stream", True)
    if "input_cost_usd" in call or "output_cost_usd" in call:
        _settle_cost(call)
    if usage:
        settle(usage, call.get("provider"), view.scope, view.attributes)
    operation, name = take("operation", None) or kind.label, view.name
    if not _NAMES.isdisjoint(call):
        name = _take_names(call, details, name if kind.is_model_call else None) or name
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
            _described(view.resource),
        ),
    )


def _settle_cost(call: dict[str, Any]) -> None:
    """The parts of a reported cost against its whole: less than its parts it cannot be."""
    parts = [call[name] for name in ("input_cost_usd", "output_cost_usd") if name in call]
    if len(parts) == 2 and call.get("cost_usd", 0.0) < sum(parts):
        call["cost_usd"] = round(sum(parts), 12)


_OWN_NAMES = ("tool_name", "agent_name", "workflow_name", "entity_name", "written_name", "function_name")
"""What has no `name` goes by one of these; `written_name` is a sentence that somebody made for the span."""
_NAMES = frozenset({"prompt_name", "prompt_version", *_OWN_NAMES})


def _take_names(call: dict[str, Any], details: dict[str, Any], name: str | None) -> str | None:
    """Take names out of `call`; what has no `name` goes by its own: the tool's before its agent's."""
    for key in ("prompt_name", "prompt_version"):
        if key in call:
            details[key] = call.pop(key)
    for key in _OWN_NAMES:
        found = call.pop(key, None)
        name = name or found
        if found and key != "written_name":
            call.setdefault("given_name", found)
    return name


@lru_cache(maxsize=256)
def _provider_of(scope: str) -> str | None:
    """The provider that an instrumentor is for, by the last word of its scope."""
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


def _with_system(system: list[Message], said: Iterable[Message]) -> list[Message]:
    """The instructions before the messages, unless they are there already."""
    said = [*said]
    return said if said[: len(system)] == system else [*system, *said]


def _described(resource: Mapping[str, Any]) -> Mapping[str, str]:
    """What of a resource goes onto events; kept by identity, for all spans of a provider share one."""
    found = _resources.get(id(resource))
    if found is None or found[0] is not resource:
        made = {name: value for name in _RESOURCE if name in resource and (value := text(resource[name]))}
        if not _is_small(resource):
            return made
        if len(_resources) >= _MAX_RESOURCES:
            _resources.clear()
        found = _resources[id(resource)] = (resource, made)
    return found[1]


def _is_small(resource: Mapping[str, Any]) -> bool:
    """Whether it may be kept: one that OTLP brought may be as large as a request."""
    sizes = (
        len(name) + (len(value) if isinstance(value, str | bytes | list | dict) else 0)
        for name, value in resource.items()
    )
    return len(resource) < 1000 and sum(sizes) < 64 * 1024


_MAX_RESOURCES = 64
_resources: dict[int, tuple[Mapping[str, Any], Mapping[str, str]]] = {}


_SCHEMES = {443: "https://", 80: "http://"}


@lru_cache(maxsize=256)
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
    message: str | None = view.status_message or reported.get("message")
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


def _context(
    parts: Parts, attributes: Mapping[str, Any], resource: Mapping[str, Any], own: Plan | None = None
) -> CallContext:
    context = parts["context"]
    if parts["properties"]:
        parts["properties"] = _custom(parts["properties"], attributes)
    if resource and not _CONTEXT_NAMES.isdisjoint(
        resource
    ):  # the last place to look: a worker of one feature or tenant
        for field, value in apply(plan_of(_index(("genai",)), resource), resource)["context"].items():
            context.setdefault(field, value)
    for part in ("groups", "properties", "flags"):
        if parts[part]:
            context[part] = parts[part]
    if own is not None and context:
        context["own"] = _context(apply(own, attributes), attributes, resource)
    return _new(CallContext, map(context.get, *_CONTEXT)) if context else NO_CONTEXT


def _custom(properties: dict[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The properties without those that mean something to PostHog, unless the application named them so.

    Anybody's metadata may be called `$ai_input`, `$set` or `token`: it would pass for what we say, and
    pass by what is hidden.
    """
    return {
        name: value
        for name, value in properties.items()
        if not (name.startswith("$") or name in _RESERVED)
        or name.startswith("$feature/")
        or PROPERTY + name in attributes
    }
