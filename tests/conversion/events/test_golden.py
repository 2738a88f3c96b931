"""All events of some spans, compared with golden files; `UPDATE_GOLDEN=1 make test` rewrites them."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.spans.span_view import SpanEvent, SpanView
from tests.support.paths import GOLDEN
from tests.support.spans import START, make_view

EVENTS = GOLDEN / "events"
EVERYTHING = frozenset({"ai", "llm_completion", "llm_generation"})

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SAID = {
    "gen_ai.input.messages": json.dumps(
        [{"role": "user", "parts": [{"type": "text", "content": "Say hello"}]}]
    ),
    "gen_ai.output.messages": json.dumps(
        [{"role": "assistant", "parts": [{"type": "text", "content": "Hello!"}], "finish_reason": "stop"}]
    ),
    "gen_ai.system_instructions": '[{"type":"text","content":"Be brief."}]',
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.response.model": "gpt-5.1-2025-11-13",
    "gen_ai.response.id": "chatcmpl-1",
}
CONTEXT = {
    "posthog.distinct_id": "user_42",
    "posthog.feature": "smart_reply",
    "posthog.chat_id": "chat-7",
    "posthog.ai_friend_id": "luna",
    "posthog.username": "ada",
    "posthog.session_id": "01990000-replay",
    "posthog.conversation_id": "conv-9",
    "posthog.group.company": "acme",
    "posthog.property.topic": "greetings",
    "posthog.flag.new-model": "variant-a",
}

SPANS: dict[str, SpanView] = {
    "chat": make_view(
        {
            **SAID,
            **CONTEXT,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.request.max_tokens": 400,
            "gen_ai.usage.input_tokens": 1000,
            "gen_ai.usage.output_tokens": 200,
            "gen_ai.usage.cache_read.input_tokens": 600,
            "gen_ai.usage.reasoning.output_tokens": 50,
            "gen_ai.request.reasoning.level": "low",
            "server.address": "api.openai.com",
            "server.port": 443,
        },
        resource={"service.name": "chat-api", "host.name": "not ours to tell"},
    ),
    "chat_stream_with_tools": make_view(
        {
            "gen_ai.request.stream": True,
            "gen_ai.response.time_to_first_chunk": 0.25,
            "posthog.stream.duration": 1.2,
            "gen_ai.tool.definitions": '[{"type":"function","name":"weather","parameters":{}}]',
            "gen_ai.input.messages": json.dumps(
                [
                    {"role": "user", "parts": [{"type": "text", "content": "Weather in Paris?"}]},
                    {
                        "role": "assistant",
                        "parts": [
                            {
                                "type": "tool_call",
                                "id": "c1",
                                "name": "weather",
                                "arguments": {"city": "Paris"},
                            }
                        ],
                    },
                    {
                        "role": "tool",
                        "parts": [{"type": "tool_call_response", "id": "c1", "response": {"sky": "clear"}}],
                    },
                ]
            ),
            "gen_ai.output.messages": json.dumps(
                [
                    {
                        "role": "assistant",
                        "parts": [
                            {"type": "reasoning", "content": "Ask again."},
                            {"type": "text", "content": "One moment."},
                            {
                                "type": "tool_call",
                                "id": "c2",
                                "name": "weather",
                                "arguments": {"city": "Lyon"},
                            },
                        ],
                    }
                ]
            ),
            "gen_ai.response.finish_reasons": ["tool_calls"],
        },
        parent_id="3a341e0a2bbd6f7b",
    ),
    "failed": make_view(
        {**CONTEXT, "error.type": "RateLimitError", "gen_ai.input.messages": SAID["gen_ai.input.messages"]},
        status="ERROR",
        status_message="Error code: 429",
        events=[
            SpanEvent(
                "exception",
                START,
                {
                    "exception.type": "openai.RateLimitError",
                    "exception.message": "Error code: 429 - slow down",
                },
            )
        ],
    ),
    "image": make_view(
        only={
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": "gcp.gemini",
            "gen_ai.request.model": "models/gemini-3-pro-image-preview",
            "gen_ai.usage.input_tokens": 500,
            "gen_ai.usage.output_tokens": 2000,
            "gen_ai.usage.image.output_tokens": 1120,
            "gen_ai.output.type": "image",
            "posthog.image.count": 1,
            "posthog.image.aspect_ratio": "16:9",
            "posthog.image.reference_count": 1,
            "posthog.prompt.length": 12,
            "gen_ai.input.messages": json.dumps(
                [
                    {
                        "role": "user",
                        "parts": [
                            {"type": "text", "content": "A cat, please"},
                            {"type": "blob", "mime_type": "image/png", "modality": "image", "content": PNG},
                        ],
                    }
                ]
            ),
            "gen_ai.output.messages": json.dumps(
                [
                    {
                        "role": "assistant",
                        "parts": [
                            {"type": "blob", "mime_type": "image/png", "modality": "image", "content": PNG}
                        ],
                    }
                ]
            ),
        },
        name="generate_content gemini-3-pro-image-preview",
    ),
    "embedding": make_view(
        only={
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "text-embedding-3-small",
            "gen_ai.usage.input_tokens": 1000,
            "gen_ai.embeddings.input": '["a text", "another"]',
        },
        name="embeddings text-embedding-3-small",
    ),
    "tool": make_view(
        only={
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "weather",
            "gen_ai.tool.call.arguments": '{"city":"Paris"}',
            "gen_ai.tool.call.result": "sunny",
        },
        name="execute_tool weather",
        parent_id="3a341e0a2bbd6f7b",
    ),
    "root_agent": make_view(
        only={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner", **SAID},
        name="invoke_agent planner",
    ),
    "nothing_known": make_view(only={"gen_ai.operation.name": "chat"}, name="chat", end_ns=None),
}


@pytest.mark.parametrize("name", SPANS)
@pytest.mark.parametrize("content", [True, False], ids=["content", "private"])
def test_a_span_becomes_these_events(name: str, content: bool) -> None:
    pipeline = Pipeline(families=EVERYTHING, content=content, prices=PriceBook())
    written = json.dumps(pipeline.finished_events(SPANS[name]), indent=2, ensure_ascii=False) + "\n"
    file = EVENTS / f"{name}{'' if content else '.private'}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(written)
    assert json.loads(written) == json.loads(file.read_text())


@pytest.mark.parametrize("name", SPANS)
def test_private_events_hold_nothing_that_anybody_wrote(name: str) -> None:
    pipeline = Pipeline(families=EVERYTHING, content=False, prices=PriceBook())
    sent = json.dumps(pipeline.finished_events(SPANS[name]))
    for written in (
        "Say hello",
        "Hello!",
        "Be brief",
        "Paris",
        "Lyon",
        "clear",
        "sunny",
        "A cat",
        PNG,
        "slow down",
    ):
        assert written not in sent


@pytest.mark.parametrize("name", SPANS)
def test_no_base64_leaves_in_full(name: str) -> None:
    pipeline = Pipeline(families=EVERYTHING, prices=PriceBook())
    assert PNG not in json.dumps(pipeline.finished_events(SPANS[name]))


def test_base64_is_sent_whole_without_a_media_replacer() -> None:
    pipeline = Pipeline(families=EVERYTHING, media=None)
    [generation, *_] = pipeline.finished_events(SPANS["image"])
    shown: Any = generation["properties"]["$ai_output_choices"][0]["content"]
    assert shown == [{"type": "image", "image": f"data:image/png;base64,{PNG}"}]
