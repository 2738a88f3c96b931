"""OpenAI's wire: a request goes in, a `Reply` comes out."""

from __future__ import annotations

import base64
import json
import re
import struct
from typing import TYPE_CHECKING, Any

from otel_posthog.demo.fake_providers.canned import (
    CREATED,
    IMAGE_TOKENS,
    JSON,
    REASONING_TOKENS,
    Failure,
    Reply,
    answer_text,
    arguments_for,
    cached_tokens,
    count_tokens,
    digest,
    failure_for,
    png,
    shape_answer,
    split_text,
    text_of,
    vector,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _openai_failure(failure: Failure) -> Reply:
    return Reply(
        {
            "error": {
                "message": failure.message,
                "type": failure.openai_type,
                "param": None,
                "code": failure.openai_code,
            }
        },
        status=failure.status,
    )


def _chat(request: JSON) -> Reply:
    messages = request.get("messages") or []
    model = request.get("model", "")
    everything = text_of(messages)
    prompt = next((text_of(m) for m in reversed(messages) if m.get("role") == "user"), everything)
    if failure := failure_for(model, everything):
        return _openai_failure(failure)
    count = request.get("n") or 1
    shape = request.get("response_format") or {}
    asks_json = shape if str(shape.get("type")).startswith("json") else None
    text = shape_answer(
        answer_text(prompt), asks_json, (shape.get("json_schema") or {}).get("schema"), prompt
    )
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    finish = "stop"
    if limit and count_tokens(text) > limit:
        text, finish = text[: limit * 4], "length"
    calls: list[JSON] = []
    wants_tool = request.get("tool_choice") != "none" and (not messages or messages[-1].get("role") != "tool")
    if request.get("tools") and wants_tool:
        function = request["tools"][0]["function"]
        arguments = json.dumps(arguments_for(function.get("parameters") or {}, prompt))
        calls = [
            {
                "id": "call_" + digest(prompt)[:12],
                "type": "function",
                "function": {"name": function["name"], "arguments": arguments},
            }
        ]
        text, finish = "", "tool_calls"
    reasoning = REASONING_TOKENS.get(request.get("reasoning_effort") or "none", 0)
    answer_tokens = count_tokens(text or calls[0]["function"]["arguments"]) * count
    prompt_tokens = count_tokens(everything)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": answer_tokens + reasoning,
        "total_tokens": prompt_tokens + answer_tokens + reasoning,
        "prompt_tokens_details": {"cached_tokens": cached_tokens(prompt_tokens), "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    head = {
        "id": "chatcmpl-" + digest(model, everything)[:24],
        "created": CREATED,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_standin",
    }
    if request.get("stream"):
        wants_usage = bool((request.get("stream_options") or {}).get("include_usage"))
        return Reply(
            events=_chat_events(
                head, text, calls, finish=finish, count=count, usage=usage if wants_usage else None
            )
        )
    message: JSON = {"role": "assistant", "content": text or None, "refusal": None}
    if calls:
        message["tool_calls"] = calls
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": finish}
        for index in range(count)
    ]
    return Reply({**head, "object": "chat.completion", "choices": choices, "usage": usage})


def _chat_events(
    head: JSON, text: str, calls: list[JSON], *, finish: str, count: int, usage: JSON | None
) -> Iterator[tuple[str | None, JSON | str]]:
    head = {**head, "object": "chat.completion.chunk"} | ({"usage": None} if usage else {})

    def chunk(index: int, delta: JSON, reason: str | None = None) -> tuple[None, JSON]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return None, {**head, "choices": [choice]}

    for index in range(count):
        yield chunk(index, {"role": "assistant", "content": None if calls else ""})
        for call in calls:
            opening = {**call["function"], "arguments": ""}
            yield chunk(index, {"tool_calls": [{**call, "index": 0, "function": opening}]})
            for piece in split_text(call["function"]["arguments"]):
                yield chunk(index, {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        for piece in split_text(text):
            yield chunk(index, {"content": piece})
        yield chunk(index, {}, finish)
    if usage:
        yield None, {**head, "choices": [], "usage": usage}
    yield None, "[DONE]"


def _responses(request: JSON) -> Reply:
    model, given = request.get("model", ""), request.get("input") or ""
    everything = "\n".join(filter(None, (request.get("instructions") or "", text_of(given))))
    if failure := failure_for(model, everything):
        return _openai_failure(failure)
    items = given if isinstance(given, list) else [{"role": "user", "content": given}]
    prompt = next((text_of(i) for i in reversed(items) if i.get("role") == "user"), everything)
    mark = digest(model, everything)[:24]
    kinds = {tool.get("type"): tool for tool in request.get("tools") or []}
    output: list[JSON] = []
    if "web_search" in kinds or "web_search_preview" in kinds:
        action = {"type": "search", "query": prompt[:60], "queries": [prompt[:60]], "sources": []}
        output.append(
            {"id": "ws_" + mark, "type": "web_search_call", "status": "completed", "action": action}
        )
    if "image_generation" in kinds:
        image = {"id": "ig_" + mark, "type": "image_generation_call", "status": "completed"}
        output.append({**image, "result": png(prompt)})
    function = kinds.get("function")
    if function and not any(item.get("type") == "function_call_output" for item in items):
        arguments = json.dumps(arguments_for(function.get("parameters") or {}, prompt))
        call = {"id": "fc_" + mark, "type": "function_call", "status": "completed", "call_id": "call_" + mark}
        output.append({**call, "name": function["name"], "arguments": arguments})
    text = "" if function and output and output[-1]["type"] == "function_call" else answer_text(prompt)
    if text:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        message = {"id": "msg_" + mark, "type": "message", "role": "assistant", "status": "completed"}
        output.append({**message, "content": [part]})
    reasoning = REASONING_TOKENS.get((request.get("reasoning") or {}).get("effort") or "none", 0)
    prompt_tokens = count_tokens(everything)
    answer_tokens = count_tokens(text or output[-1].get("arguments", "")) + reasoning
    response = {
        "id": "resp_" + mark,
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "metadata": request.get("metadata") or {},
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": request.get("previous_response_id"),
        "service_tier": "default",
        "temperature": request.get("temperature", 1.0),
        "tool_choice": request.get("tool_choice", "auto"),
        "tools": request.get("tools") or [],
        "top_p": request.get("top_p", 1.0),
        "usage": {
            "input_tokens": prompt_tokens,
            "input_tokens_details": {"cached_tokens": cached_tokens(prompt_tokens), "cache_write_tokens": 0},
            "output_tokens": answer_tokens,
            "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": prompt_tokens + answer_tokens,
        },
    }
    return Reply(events=_response_events(response)) if request.get("stream") else Reply(response)


def _response_events(response: JSON) -> Iterator[tuple[str | None, JSON | str]]:
    number = -1

    def event(kind: str, **fields: Any) -> tuple[str, JSON]:
        nonlocal number
        number += 1
        return kind, {"type": kind, "sequence_number": number, **fields}

    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(response["output"]):
        place: JSON = {"output_index": index, "item_id": item["id"]}
        if item["type"] == "message":
            part = item["content"][0]
            empty = {**item, "content": [], "status": "in_progress"}
            yield event("response.output_item.added", output_index=index, item=empty)
            place["content_index"] = 0
            yield event("response.content_part.added", **place, part={**part, "text": ""})
            for piece in split_text(part["text"]):
                yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
            yield event("response.output_text.done", **place, text=part["text"], logprobs=[])
            yield event("response.content_part.done", **place, part=part)
        elif item["type"] == "function_call":
            empty = {**item, "arguments": "", "status": "in_progress"}
            yield event("response.output_item.added", output_index=index, item=empty)
            for piece in split_text(item["arguments"]):
                yield event("response.function_call_arguments.delta", **place, delta=piece)
            yield event(
                "response.function_call_arguments.done",
                **place,
                name=item["name"],
                arguments=item["arguments"],
            )
        else:
            yield event(
                "response.output_item.added", output_index=index, item={**item, "status": "in_progress"}
            )
        yield event("response.output_item.done", output_index=index, item=item)
    yield event("response.completed", response=response)


def _embeddings(request: JSON) -> Reply:
    given = request.get("input") or ""
    texts = [str(given)] if isinstance(given, str) else [str(text) for text in given]
    model = request.get("model", "")
    if failure := failure_for(model, "".join(texts)):
        return _openai_failure(failure)
    dimensions = request.get("dimensions") or 1536
    vectors: list[Any] = [vector(text, dimensions) for text in texts]
    if request.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() for vector in vectors]
    used = sum(map(count_tokens, texts))
    data = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": used, "total_tokens": used}
    return Reply({"object": "list", "data": data, "model": model, "usage": usage})


def _images(request: JSON) -> Reply:
    prompt, model = str(request.get("prompt") or ""), request.get("model") or "gpt-image-1"
    if failure := failure_for(model, prompt):
        return _openai_failure(failure)
    count = int(request.get("n") or 1)
    pictures = int(request.get("reference_images") or 0) * IMAGE_TOKENS
    prompt_tokens, image_tokens = count_tokens(prompt), IMAGE_TOKENS * count
    usage = {
        "input_tokens": prompt_tokens + pictures,
        "input_tokens_details": {"text_tokens": prompt_tokens, "image_tokens": pictures},
        "output_tokens": image_tokens,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": image_tokens},
        "total_tokens": prompt_tokens + pictures + image_tokens,
    }
    shape: JSON = {
        "created": CREATED if not request.get("stream") else None,
        "background": "opaque",
        "output_format": request.get("output_format") or "png",
        "quality": request.get("quality") or "low",
        "size": request.get("size") or "1024x1024",
    }
    pictures_made = [png(f"{prompt}{index}") for index in range(count)]
    if request.get("stream"):
        event: JSON = {
            **shape,
            "type": "image_generation.completed",
            "created_at": CREATED,
            "b64_json": pictures_made[0],
            "usage": usage,
        }
        partial = {**event, "type": "image_generation.partial_image", "partial_image_index": 0}
        del partial["usage"], partial["created"], event["created"]
        partials = [(partial["type"], partial)] if request.get("partial_images") else []
        return Reply(events=iter([*partials, (event["type"], event)]))
    return Reply({**shape, "data": [{"b64_json": picture} for picture in pictures_made], "usage": usage})


def read_form(body: bytes) -> JSON:
    """Read the plain fields of a form, and how many pictures it carries (images.edit is sent as a form)."""
    text = body.decode("latin-1")
    fields: JSON = dict(re.findall(r'name="(\w+)"\r\n\r\n(.*?)\r\n--', text, re.DOTALL))
    fields["reference_images"] = len(re.findall(r'name="image(?:\[\d*\])?"; filename', text))
    return fields


ENDPOINTS: dict[str, Callable[[JSON], Reply]] = {
    "chat/completions": _chat,
    "responses": _responses,
    "embeddings": _embeddings,
    "images/generations": _images,
    "images/edits": _images,
}
