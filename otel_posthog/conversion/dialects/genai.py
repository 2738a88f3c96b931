"""The OpenTelemetry GenAI semantic conventions: the newest names, then the older ones still emitted.

Newest: open-telemetry/semantic-conventions-genai, docs/gen-ai (2026). Older names follow in the order
in which they were abandoned: `gen_ai.system` (to 1.36), `cache_creation` (to 2026-08), `prompt_tokens` and
`completion_tokens` (to 1.27). For values without a name in the conventions, our own instrumentors write
`posthog.*`, and the official ones `gcp.gen_ai.*`, `openai.*` and `anthropic.*`.

Content has had three places: attributes (today), events of the span (`gen_ai.content.prompt` to 1.27,
`gen_ai.user.message` ... `gen_ai.choice` to 1.36, `gen_ai.client.inference.operation.details` since), and log
records, which reach a span only if a library writes them into an attribute (Logfire's `events`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from otel_posthog.conversion import context_attributes
from otel_posthog.conversion.model_call import Evaluation, Kind
from otel_posthog.conversion.operations import OPERATIONS
from otel_posthog.conversion.readers.attribute_values import (
    anything,
    boolean,
    count,
    dollars,
    finish_reasons,
    number,
    parse_json,
    private,
    seconds,
    text,
    texts,
)
from otel_posthog.conversion.readers.messages import messages, system_messages, tools
from otel_posthog.conversion.readers.rule_table import (
    Dialect,
    Parts,
    Rule,
    apply,
    index_of,
    keep_richer,
    plan_of,
    rows,
)
from otel_posthog.conversion.spans.genai_detection import EVALUATION_EVENT
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["DIALECT", "input_messages", "older_messages", "output_messages"]

_AGENT = Kind.AGENT  # a global is looked up in a tenth of the time that a member of an Enum takes


def kind_of(parts: Parts, view: SpanView) -> Kind:
    """Return the kind of the span; one with an unknown operation is a model call if it used tokens."""
    call = parts["call"]
    operation = call.get("operation", "")
    known = OPERATIONS.get(operation)
    if known is None and operation:
        operation = operation.lower()
        known = OPERATIONS.get(operation)
    if known is _AGENT and view.kind == "CLIENT" and parts["usage"] and "request_model" not in call:
        return Kind.GENERATION  # an agent that runs at the provider: one call, as far as we can see
    if known is not None:
        return known
    if "image" in operation or "audio" in operation:
        return Kind.GENERATION
    if not operation and "tool_name" in call:
        return Kind.TOOL
    model = call.get("request_model") or call.get("response_model")
    if model and (not operation or parts["usage"]):
        return Kind.GENERATION
    if not operation and "agent_name" in call:
        return Kind.AGENT
    if not model and not operation and _holds_only_scores(view):
        return Kind.EVALUATION
    return Kind.SPAN


def _holds_only_scores(view: SpanView) -> bool:
    """Whether scores are all that makes the span a GenAI span."""
    if "gen_ai.evaluation.name" in view.attributes:
        return True
    return any(event.name == EVALUATION_EVENT for event in view.events) and not any(
        name.startswith("gen_ai.") for name in view.attributes
    )


def input_messages(value: Any) -> Any:
    """Return the messages of `gen_ai.input.messages`."""
    return messages(value, "user")


def output_messages(value: Any) -> Any:
    """Return the messages of `gen_ai.output.messages`."""
    return messages(value, "assistant")


_USAGE = "gen_ai.usage."
_CONFIG = "gcp.gen_ai.operation.config."

_RULES = (
    *rows(
        "call",
        operation=(text, "gen_ai.operation.name"),
        provider=(text, "gen_ai.provider.name", "gen_ai.system"),
        request_model=(text, "gen_ai.request.model"),
        response_model=(text, "gen_ai.response.model"),
        response_id=(text, "gen_ai.response.id"),
        address=(text, "server.address"),
        port=(count, "server.port"),
        stream=(boolean, "gen_ai.request.stream"),
        time_to_first_token=(
            seconds,
            "gen_ai.response.time_to_first_chunk",
            "gen_ai.server.time_to_first_token",
            "gen_ai.client.operation.time_to_first_chunk",
        ),
        finish_reasons=(
            finish_reasons,
            "gen_ai.response.finish_reasons",
            "gen_ai.response.finish_reason",
            "anthropic.message.stop_reason",
        ),
        system=(system_messages, "gen_ai.system_instructions"),
        input=(input_messages, "gen_ai.input.messages", "gen_ai.prompt"),
        output=(output_messages, "gen_ai.output.messages", "gen_ai.completion"),
        tools=(tools, "gen_ai.tool.definitions", "gen_ai.request.available_tools"),
        embedded=(parse_json, "gen_ai.embeddings.input", "posthog.embeddings.input"),
        agent_name=(text, "gen_ai.agent.name", "gen_ai.agent.id"),
        tool_name=(text, "gen_ai.tool.name"),
        workflow_name=(text, "gen_ai.workflow.name"),
        input_state=(parse_json, "gen_ai.tool.call.arguments", "gen_ai.retrieval.query.text"),
        output_state=(parse_json, "gen_ai.tool.call.result", "gen_ai.retrieval.documents"),
        cost_usd=(
            dollars,
            _USAGE + "cost",
            _USAGE + "total_cost",
            "gen_ai.cost.total_cost",
            "operation.cost",
        ),
        input_cost_usd=(dollars, _USAGE + "input_cost", "gen_ai.cost.input_cost"),
        output_cost_usd=(dollars, _USAGE + "output_cost", "gen_ai.cost.output_cost"),
        prompt_name=(text, "gen_ai.prompt.name"),
        prompt_version=(text, "gen_ai.prompt.version"),
    ),
    *rows(
        "usage",
        input=(count, _USAGE + "input_tokens", _USAGE + "prompt_tokens"),
        output=(count, _USAGE + "output_tokens", _USAGE + "completion_tokens"),
        total=(count, _USAGE + "total_tokens"),
        cache_read=(
            count,
            _USAGE + "cache_read.input_tokens",
            _USAGE + "cache_read_input_tokens",
            _USAGE + "cached_tokens",
            _USAGE + "details.cache_read_tokens",
            _USAGE + "details.cache_read_input_tokens",
            _USAGE + "details.cached_tokens",
        ),
        cache_write=(
            count,
            _USAGE + "cache_write.input_tokens",
            _USAGE + "cache_creation.input_tokens",
            _USAGE + "cache_creation_input_tokens",
            _USAGE + "details.cache_write_tokens",
            _USAGE + "details.cache_creation_input_tokens",
        ),
        reasoning=(
            count,
            _USAGE + "reasoning.output_tokens",
            _USAGE + "reasoning_tokens",
            _USAGE + "details.reasoning_tokens",
            _USAGE + "details.thoughts_tokens",
            _USAGE + "experimental.reasoning_tokens",
        ),
        input_text=(count, _USAGE + "text.input_tokens"),
        input_image=(count, _USAGE + "image.input_tokens"),
        input_audio=(count, _USAGE + "audio.input_tokens"),
        output_text=(count, _USAGE + "text.output_tokens"),
        output_image=(count, _USAGE + "image.output_tokens"),
        output_audio=(count, _USAGE + "audio.output_tokens"),
        cache_read_audio=(count, _USAGE + "audio.cache_read.input_tokens"),
        searches=(count, "posthog.web_search.count"),
    ),
    *rows(
        "parameters",
        temperature=(number, "gen_ai.request.temperature"),
        top_p=(number, "gen_ai.request.top_p"),
        top_k=(number, "gen_ai.request.top_k"),
        max_tokens=(count, "gen_ai.request.max_tokens", "gen_ai.request.max_completion_tokens"),
        frequency_penalty=(number, "gen_ai.request.frequency_penalty"),
        presence_penalty=(number, "gen_ai.request.presence_penalty"),
        stop=(texts, "gen_ai.request.stop_sequences"),
        seed=(number, "gen_ai.request.seed", "gen_ai.openai.request.seed"),
        n=(count, "gen_ai.request.choice.count"),
        reasoning_effort=(text, "gen_ai.request.reasoning.level", "gen_ai.request.reasoning_effort"),
        service_tier=(
            text,
            "openai.request.service_tier",
            "gen_ai.openai.request.service_tier",
            "posthog.request.service_tier",
        ),
        response_format=(text, "gen_ai.output.type", "gen_ai.openai.request.response_format"),
        previous_response_id=(text, "gen_ai.request.previous_response.id"),
        dimensions=(count, "gen_ai.embeddings.dimension.count", "gen_ai.request.embedding.dimensions"),
    ),
    *rows(
        "details",
        service_tier=(text, "openai.response.service_tier", "posthog.response.service_tier"),
        prompt_length=(count, "posthog.prompt.length"),
        message_count=(count, "posthog.messages.count"),
        image_count=(count, "posthog.image.count"),
        image_size=(text, "posthog.image.size", _CONFIG + "image_config.image_size"),
        image_quality=(text, "posthog.image.quality"),
        aspect_ratio=(text, "posthog.image.aspect_ratio", _CONFIG + "image_config.aspect_ratio"),
        reference_image_count=(count, "posthog.image.reference_count"),
        attached_file_count=(count, "posthog.files.count"),
        web_search_enabled=(boolean, "posthog.web_search.enabled"),
        web_search_used=(boolean, "posthog.web_search.used"),
        web_search_count=(count, "posthog.web_search.count"),
        url_context_enabled=(boolean, "posthog.url_context.enabled"),
        url_context_used=(boolean, "posthog.url_context.used"),
        thinking_level=(text, "posthog.thinking.level", _CONFIG + "thinking_config.thinking_level"),
        thinking_budget=(number, "posthog.thinking.budget", _CONFIG + "thinking_config.thinking_budget"),
        stream_seconds=(seconds, "posthog.stream.duration"),
        tools_offered=(count, "posthog.tools.count"),
        tool_call_count=(count, "posthog.tool_calls.count"),
        cached_content=(boolean, "posthog.cached_content"),
        block_reason=(text, "posthog.prompt.block_reason"),
        retry_count=(count, "posthog.retry.count"),
        request_id=(text, "posthog.request.id"),
    ),
    *rows(
        "error",
        type=(text, "error.type"),
        http_status=(
            count,
            "posthog.http.status",
            "http.response.status_code",
            "http.status_code",
        ),
    ),
    *(
        Rule("context", field, private if field == "privacy_mode" else text, names)
        for field, names in context_attributes.CONTEXT.items()
    ),
    Rule("context", "parent_id", text, (context_attributes.PARENT_ID,)),
)


def complete(parts: Parts, view: SpanView) -> None:
    """Read messages and scores from events of the span, and from attributes that hold events."""
    if view.events:
        _read_events(parts, view.events)
    attributes = view.attributes
    if "gen_ai.evaluation.name" in attributes:
        _read_score(parts["call"], attributes)
    if "events" in attributes and isinstance(logged := parse_json(attributes["events"]), list):
        older_messages(parts["call"], [each for each in logged if isinstance(each, dict)])


def _read_events(parts: Parts, events: Iterable[Any]) -> None:
    call = parts["call"]
    older: list[dict[str, Any]] = []
    for event in events:
        attributes = event.attributes
        if event.name == EVALUATION_EVENT:
            _read_score(call, attributes)
        elif event.name == "gen_ai.client.inference.operation.details":
            for part, fields in apply(plan_of(_INDEX, attributes), attributes).items():
                for field, value in fields.items():
                    if field in {"input", "output"}:
                        keep_richer(call, field, value)
                    else:
                        parts[part].setdefault(field, value)
        elif event.name.startswith("gen_ai."):
            older.append({**attributes, "event.name": event.name})
    if older:
        older_messages(call, older)


_SIDES = {
    "gen_ai.system.message": ("input", "system"),
    "gen_ai.user.message": ("input", "user"),
    "gen_ai.assistant.message": ("input", "assistant"),
    "gen_ai.tool.message": ("input", "tool"),
    "gen_ai.content.prompt": ("input", "user"),
    "gen_ai.content.completion": ("output", "assistant"),
    "gen_ai.choice": ("output", "assistant"),
}
"""Side and role of the events that are one message each; a choice holds its message inside."""


def older_messages(call: dict[str, Any], events: Iterable[Mapping[str, Any]]) -> None:
    """Read messages from events, each with its fields and its `event.name`."""
    sides: dict[str, list[Any]] = {"input": [], "output": []}
    reasons = []
    for event in events:
        side, role = _SIDES.get(str(event.get("event.name")), ("", ""))
        if not side:
            continue
        whole = parse_json(event.get("gen_ai.prompt", event.get("gen_ai.completion")))
        body = parse_json(event.get("gen_ai.event.content", event.get("body", event)))
        if whole is not None:
            sides[side] += messages(whole, role) or ()
            continue
        body = body if isinstance(body, dict) else {"content": body}
        inner = parse_json(body.get("message"))
        message = inner if isinstance(inner, dict) else {**body, "content": body.get("content", inner)}
        message = {"role": role, **{key: parse_json(value) for key, value in message.items()}}
        if message["role"] == "tool" and "tool_call_id" not in message:
            message["tool_call_id"] = message.get("id")
        sides[side] += messages([message], role) or ()
        reasons.append(body.get("finish_reason") if side == "output" else None)
    if not sides["output"] and sides["input"] and sides["input"][-1]["role"] == "assistant":
        sides["output"] = [sides["input"].pop()]  # some libraries write the answer like an earlier message
    for side, chat in sides.items():
        keep_richer(call, side, chat)
    known_reasons = finish_reasons([reason for reason in reasons if isinstance(reason, str)])
    if known_reasons and "finish_reasons" not in call:
        call["finish_reasons"] = known_reasons


def _read_score(call: dict[str, Any], attributes: Mapping[str, Any]) -> None:
    """Read a score from `gen_ai.evaluation.*`: a name, and a number or a word."""
    name = text(attributes.get("gen_ai.evaluation.name"))
    value = number(attributes.get("gen_ai.evaluation.score.value"))
    label = text(attributes.get("gen_ai.evaluation.score.label"))
    if name is not None and (value is not None or label is not None):
        call.setdefault("evaluations", []).append(
            Evaluation(
                name=name,
                value=value,
                label=label,
                explanation=text(attributes.get("gen_ai.evaluation.explanation")),
                response_id=text(attributes.get("gen_ai.response.id")),
            )
        )


DIALECT = Dialect(
    "genai",
    _RULES,
    prefixes=(
        (context_attributes.GROUP, "groups", text),
        (context_attributes.PROPERTY, "properties", anything),
        (context_attributes.FLAG, "flags", anything),
    ),
    kind_of=kind_of,
    complete=complete,
)
_INDEX = index_of([DIALECT])
