"""The tables of `docs/dialects.md`: each attribute is put on a span, and its row lists what changes.

The right column is what PostHog's own OTLP route makes of the attribute, read in PostHog's source in 2026
(rust/capture/src/otel, nodejs ai/otel/attribute-mapping.ts and its middlewares).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from otel_posthog.conversion.dialects import DIALECTS
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.readers.rule_table import Dialect
from otel_posthog.conversion.spans.genai_detection import SIGNATURES
from tests.support.spans import RECORDED, make_view, recorded

__all__ = ["dialects_tables", "recorded_scopes"]

PIPELINE = Pipeline(families=frozenset({"ai", "llm_completion"}))


def scope_of(name: str) -> str:
    """Return a recorded scope of the dialect; one of ours if the dialect has no scopes."""
    pattern = SIGNATURES[name].scopes
    return next((each for each in recorded_scopes() if pattern and pattern.match(each)), "tests")


@cache
def recorded_scopes() -> list[str]:
    """Return the scopes of all recorded spans."""
    names = sorted(path.stem for path in RECORDED.glob("*.jsonl"))
    return sorted({span["scope"] for name in names for line in recorded(name) for span in line["spans"]})


MESSAGE = '[{"role": "user", "content": "probe"}]'
VALUES: tuple[Any, ...] = (
    "probe",
    7,
    0.5,
    True,
    ["stop"],
    MESSAGE,
    '{"probe": 1}',
    '{"name": "probe"}',
    "ERROR",
)
BASES: tuple[dict[str, Any], ...] = (
    {"gen_ai.operation.name": "chat"},
    {"gen_ai.operation.name": "chat", "gen_ai.tool.name": "t", "server.address": "a.example"},
    {"gen_ai.operation.name": "embeddings"},
    {"gen_ai.operation.name": "execute_tool"},
    {"gen_ai.operation.name": "invoke_agent"},
    {},
)

KINDS: Mapping[str, tuple[Any, ...]] = {
    "gen_ai.operation.name": ("chat", "embeddings", "execute_tool"),
    "openinference.span.kind": ("LLM", "EMBEDDING", "TOOL"),
    "traceloop.span.kind": ("tool", "agent"),
    "llm.request.type": ("chat", "embedding"),
    "ai.operationId": ("ai.generateText.doGenerate", "ai.embed.doEmbed", "ai.toolCall"),
    "langfuse.observation.type": ("generation", "embedding", "tool"),
    "langsmith.span.kind": ("llm", "embedding", "tool"),
}
"""Values to try for attributes that decide the kind of a span."""

COMPANIONS: Mapping[str, dict[str, Any]] = {
    "http.response.status_code": {"error.type": "X"},
    "http.status_code": {"error.type": "X"},
    "posthog.http.status": {"error.type": "X"},
    "posthog.privacy_mode": {"gen_ai.input.messages": "probe"},
    "llm.cost.prompt": {"llm.cost.total": 9.0},
    "llm.cost.completion": {"llm.cost.total": 9.0},
    "gen_ai.usage.input_cost": {"gen_ai.usage.cost": 9.0},
    "gen_ai.usage.output_cost": {"gen_ai.usage.cost": 9.0},
    "gen_ai.cost.input_cost": {"gen_ai.usage.cost": 9.0},
    "gen_ai.cost.output_cost": {"gen_ai.usage.cost": 9.0},
    "server.port": {"server.address": "a.example"},
    "langfuse.observation.status_message": {"langfuse.observation.level": "ERROR"},
    "gen_ai.evaluation.score.value": {"gen_ai.evaluation.name": "n"},
    "gen_ai.evaluation.score.label": {"gen_ai.evaluation.name": "n"},
    "gen_ai.evaluation.explanation": {
        "gen_ai.evaluation.name": "n",
        "gen_ai.evaluation.score.value": 1,
    },
    "gen_ai.evaluation.name": {"gen_ai.evaluation.score.value": 1},
}
"""Other attributes without which an attribute means nothing."""

SPECIAL: Mapping[str, tuple[Any, ...]] = {
    "http.response.status_code": (429,),
    "http.status_code": (429,),
    "posthog.http.status": (429,),
    "langfuse.observation.completion_start_time": ('"2026-11-02T10:01:00.500000Z"',),
    "langfuse.observation.usage_details": ('{"input": 3, "output": 4}',),
    "langfuse.observation.cost_details": ('{"total": 0.5}',),
    "langfuse.observation.model.parameters": ('{"temperature": 0.5}',),
    "llm.invocation_parameters": ('{"temperature": 0.5, "model": "probe"}',),
    "embedding.invocation_parameters": ('{"dimensions": 5}',),
    "input.value": ("probe",),
    "output.value": ("probe",),
    "llm.input_messages.N.message.*": (),
    "metadata": ('{"plan": "probe"}',),
    "gen_ai.usage.raw": ('{"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}',),
    "model_request_parameters": ('{"function_tools": [{"name": "probe"}]}',),
    "request_data": ('{"temperature": 0.5}',),
    "events": ('[{"event.name": "gen_ai.user.message", "content": "probe"}]',),
    "all_messages_events": ('[{"event.name": "gen_ai.user.message", "content": "probe"}]',),
    "pydantic_ai.all_messages": ('[{"role": "user", "parts": [{"type": "text", "content": "probe"}]}]',),
    "inputs": ('["probe"]',),
    "ai.prompt": ('{"system": "probe", "prompt": "probe"}',),
    "ai.response.toolCalls": ('[{"toolCallId": "1", "toolName": "probe", "input": "{}"}]',),
    "ai.response.object": ('{"probe": 1}',),
    "ai.response.providerMetadata": ('{"openai": {"cachedPromptTokens": 3}}',),
    "ai.telemetry.metadata.$groups": ('{"company": "probe"}',),
    "ai.values": (['"probe"'],),
    "langsmith.metadata.usage_metadata": ('{"input_tokens": 3, "input_token_details": {"cache_read": 2}}',),
    "gcp.vertex.agent.llm_request": (
        '{"model": "m", "contents": [{"role": "user", "parts": [{"text": "p"}]}]}',
    ),
    "gcp.vertex.agent.llm_response": (
        '{"content": {"parts": [{"text": "p"}]}, "usage_metadata": {"prompt_token_count": 3}}',
    ),
    "metadata.usage_object": ("{'prompt_tokens': 3, 'completion_tokens': 4}",),
    "gen_ai.prompt": ("probe", MESSAGE),
    "logfire.msg": ("probe",),
}

SPELT: Mapping[str, dict[str, Any]] = {
    "gen_ai.prompt.N.role, .content, .tool_calls.N.*": {"gen_ai.prompt.0.content": "probe"},
    "gen_ai.completion.N.role, .content, .tool_calls.N.*": {"gen_ai.completion.0.content": "probe"},
    "llm.prompts.N.role, .content": {"llm.prompts.0.content": "probe"},
    "llm.completions.N.role, .content": {"llm.completions.0.content": "probe"},
    "llm.request.functions.N.name, .description, .parameters": {"llm.request.functions.0.name": "probe"},
    "llm.input_messages.N.message.*": {"llm.input_messages.0.message.content": "probe"},
    "llm.output_messages.N.message.*": {"llm.output_messages.0.message.content": "probe"},
    "llm.tools.N.tool.json_schema": {"llm.tools.0.tool.json_schema": '{"name": "probe"}'},
    "embedding.embeddings.N.embedding.text": {"embedding.embeddings.0.embedding.text": "probe"},
    "retrieval.documents.N.document.*": {"retrieval.documents.0.document.content": "probe"},
    "reranker.query": {"reranker.query": "probe"},
    "reranker.input_documents.N.document.*": {"reranker.input_documents.0.document.content": "probe"},
    "reranker.output_documents.N.document.*": {"reranker.output_documents.0.document.content": "probe"},
}
"""Attributes with an index in their names, and an example of each."""

BESIDES: Mapping[str, tuple[str, ...]] = {
    "genai": (
        "events",
        "gen_ai.evaluation.name",
        "gen_ai.evaluation.score.value",
        "gen_ai.evaluation.score.label",
        "gen_ai.evaluation.explanation",
    ),
    "openllmetry": tuple(each for each in SPELT if each.startswith(("gen_ai.", "llm.p", "llm.c", "llm.r"))),
    "openinference": (
        "llm.invocation_parameters",
        "embedding.invocation_parameters",
        "input.value",
        "output.value",
        "metadata",
        *(
            each
            for each in SPELT
            if each.startswith(("llm.input_m", "llm.output_m", "llm.tools", "emb", "re"))
        ),
    ),
    "vercel": (
        "ai.prompt.messages",
        "ai.prompt",
        "ai.response.text",
        "ai.response.object",
        "ai.response.reasoning",
        "ai.response.toolCalls",
        "ai.response.files",
        "ai.response.providerMetadata",
        "ai.telemetry.metadata.$groups",
    ),
    "pydantic_ai": (
        "pydantic_ai.all_messages",
        "all_messages_events",
        "model_request_parameters",
        "request_data",
        "gen_ai.usage.raw",
        "metadata",
    ),
    "langfuse": tuple(
        f"langfuse.observation.{each}"
        for each in (
            "usage_details",
            "cost_details",
            "model.parameters",
            "level",
            "status_message",
            "completion_start_time",
        )
    ),
    "langsmith": ("gen_ai.prompt", "gen_ai.completion", "langsmith.metadata.usage_metadata"),
    "adk": ("gcp.vertex.agent.llm_request", "gcp.vertex.agent.llm_response"),
    "litellm": ("metadata.usage_object",),
}
"""Attributes that a dialect reads by code and not by its table."""

_RAW = "stays as it is, under its own name"
_DROPPED = "the span is dropped"
ROUTE: Mapping[str, str] = {
    "gen_ai.operation.name": "`chat` a generation, `embeddings` an embedding, all else a span; then removed",
    "gen_ai.input.messages": "`$ai_input`",
    "gen_ai.output.messages": "`$ai_output_choices`",
    "gen_ai.system_instructions": "`$ai_input`, first",
    "gen_ai.usage.input_tokens": "`$ai_input_tokens`",
    "gen_ai.usage.output_tokens": "`$ai_output_tokens`",
    "gen_ai.usage.prompt_tokens": "`$ai_input_tokens`",
    "gen_ai.usage.completion_tokens": "`$ai_output_tokens`",
    "gen_ai.usage.cache_read.input_tokens": "`$ai_cache_read_input_tokens`",
    "gen_ai.usage.cache_creation.input_tokens": "`$ai_cache_creation_input_tokens`",
    "gen_ai.usage.cache_write.input_tokens": "`$ai_cache_creation_input_tokens` with `anthropic.*` only",
    "gen_ai.response.model": "`$ai_model`",
    "gen_ai.request.model": "`$ai_model` where unset",
    "gen_ai.provider.name": "`$ai_provider`",
    "gen_ai.system": "`$ai_provider` where unset",
    "server.address": "`$ai_base_url`",
    "gen_ai.conversation.id": "`$ai_session_id` where unset",
    "posthog.distinct_id": "distinct id",
    "user.id": "distinct id",
    "events": "`$ai_input`, `$ai_output_choices`",
    "http.response.status_code": "`$ai_http_status` of errors; 500 where missing",
    "http.status_code": "`$ai_http_status` of errors",
    "llm.request.type": "event",
    "traceloop.entity.input": "removed",
    "traceloop.entity.output": "removed",
    "llm.response.finish_reason": "`$ai_stop_reason`",
    "llm.response.stop_reason": "`$ai_stop_reason`",
    "gen_ai.prompt.N.role, .content, .tool_calls.N.*": "`$ai_input`",
    "gen_ai.completion.N.role, .content, .tool_calls.N.*": "`$ai_output_choices` without tool calls",
    "llm.request.functions.N.name, .description, .parameters": "`$ai_tools`",
    "ai.operationId": "event",
    "ai.prompt.messages": "`$ai_input`",
    "ai.prompt": "`$ai_input`",
    "ai.response.text": "`$ai_output_choices`",
    "ai.response.toolCalls": "removed",
    "ai.response.object": "removed",
    "ai.response.reasoning": "removed",
    "ai.response.msToFirstChunk": "removed",
    "ai.response.finishReason": "`$ai_stop_reason`",
    "ai.toolCall.name": "`$ai_span_name`",
    "ai.toolCall.args": "`$ai_input_state`",
    "ai.toolCall.result": "`$ai_output_state`",
    "ai.telemetry.functionId": "`functionId`, and the name of the outer span",
    "ai.telemetry.metadata.posthog_distinct_id": "distinct id",
    "ai.telemetry.metadata.$ai_session_id": "`$ai_session_id`",
    "ai.telemetry.metadata.$ai_prompt_name": "`$ai_prompt_name`",
    "ai.telemetry.metadata.$ai_prompt_version": "`$ai_prompt_version`",
    "ai.telemetry.metadata.$groups": "`$groups`",
    "ai.usage.outputTokenDetails.reasoningTokens": "`$ai_reasoning_tokens`",
    "pydantic_ai.all_messages": "`$ai_input_state`, `$ai_output_state`",
    "gen_ai.tool.call.arguments": "`$ai_input_state` of Pydantic AI only",
    "gen_ai.tool.call.result": "`$ai_output_state` of Pydantic AI only",
    "tool_arguments": "`$ai_input_state`",
    "tool_response": "`$ai_output_state`",
    "final_result": "`$ai_output_state`",
    "agent_name": "`$ai_span_name`",
    "model_name": "`$ai_model` where unset",
    "operation.cost": "removed",
    "model_request_parameters": "removed",
}
_OF_ITS_OWN = {"openinference": _DROPPED, "langfuse": _DROPPED}
_NOISE = re.compile(r"_cost|passthrough|reporting_exclusive|\$ai_framework")


def route(dialect: str, name: str) -> str:
    """Return what PostHog's own route makes of the attribute."""
    if dialect in _OF_ITS_OWN and not name.startswith("gen_ai."):
        return _OF_ITS_OWN[dialect]
    if name in ROUTE:
        return ROUTE[name]
    return "removed" if name.startswith(("traceloop.association", "ai.")) else _RAW


def _flat(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for event in events:
        flat[event["event"]] = True
        flat["distinct id"] = event["distinct_id"]
        for name, value in event["properties"].items():
            if name == "metadata":
                flat |= {f"metadata.{inner}": each for inner, each in value.items()}
            elif isinstance(value, dict) and name in {"$ai_model_parameters", "$groups"}:
                flat |= {f"{name}.{inner}": each for inner, each in value.items()}
            else:
                flat[name] = value
    return flat


def _change(scope: str, base: Mapping[str, Any], more: Mapping[str, Any]) -> list[str]:
    without = _flat(PIPELINE.finished_events(make_view(only=base, scope=scope, parent_id="3a341e0a2bbd6f7b")))
    with_it = _flat(
        PIPELINE.finished_events(make_view(only={**base, **more}, scope=scope, parent_id="3a341e0a2bbd6f7b"))
    )
    return [name for name, value in with_it.items() if without.get(name) != value]


def becomes(dialect: Dialect, name: str) -> str:
    """Return the events and properties in which the attribute shows."""
    key = (dialect.name, name)
    if key not in _tried:
        _tried[key] = _becomes(dialect, name)
    return _tried[key]


_tried: dict[tuple[str, str], str] = {}


def _becomes(dialect: Dialect, name: str) -> str:
    scope = scope_of(dialect.name)
    probes: list[dict[str, Any]]
    if name in SPELT:
        probes = [SPELT[name]]
    else:
        attribute = name.replace("<name>", "x")
        values = KINDS.get(name) or SPECIAL.get(name) or VALUES
        probes = [{attribute: value} for value in values]
    beside = COMPANIONS.get(name, {})
    best: list[str] = []
    other: list[str] = []
    if name.endswith("privacy_mode"):
        return "no content on any event"
    for base in [
        *BASES,
        *({key: kinds[0]} for key, kinds in KINDS.items() if key in SIGNATURES[dialect.name].markers),
    ]:
        if name in KINDS and base:
            continue
        for probe in probes:
            changed = [
                each
                for each in _change(scope, {**base, **beside}, probe)
                if "cost" in name or not _NOISE.search(each)
            ]
            if name in KINDS:
                kinds_shown = _EVENTS | {"$ai_span_type"}
                best += [
                    each
                    for each in changed
                    if each.startswith("$ai_") and each in kinds_shown and each not in best
                ]
                continue
            changed = [each for each in changed if each not in _EVENTS]
            shown = [each for each in changed if each.startswith("$") or each == "distinct id"]
            if shown and (not best or len(best) > 4):
                best = shown
            other = other or changed
    best = best or other
    return ", ".join(each if each == "distinct id" else f"`{each}`" for each in best[:4])


_EVENTS = {
    "$ai_generation",
    "$ai_embedding",
    "$ai_span",
    "$ai_trace",
    "$ai_metric",
    "llm_completion_requested",
    "llm_completion_success",
    "llm_completion_failed",
}


def names_of(dialect: Dialect) -> list[str]:
    """Return every attribute that the dialect reads, in the order of its table."""
    names = [name for rule in dialect.rules for name in rule.names]
    names += [prefix + "<name>" for prefix, _, _ in dialect.prefixes]
    return list(dict.fromkeys([*names, *BESIDES.get(dialect.name, ())]))


def dialects_tables() -> str:
    """Return the part of the page that is made by trying: a table for each dialect."""
    lines: list[str] = []
    for dialect in reversed(DIALECTS):
        lines += [f"## {SIGNATURES[dialect.name].title}", ""]
        markers = ", ".join(f"`{name}`" for name in sorted(SIGNATURES[dialect.name].markers))
        lines += [
            f"Recognised by any of: {markers}.",
            "",
            "| attribute | becomes | PostHog's own route |",
            "|---|---|---|",
        ]
        for name in names_of(dialect):
            lines.append(f"| `{name}` | {becomes(dialect, name) or '-'} | {route(dialect.name, name)} |")
        lines.append("")
    return "\n".join(lines)
