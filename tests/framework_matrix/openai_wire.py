"""OpenAI's chat completions, responses and embeddings."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

from tests.framework_matrix.answers import Answer, Ask, Turn, answer
from tests.framework_matrix.wire import (
    CACHED_TOKENS,
    REASONING_TOKENS,
    Exchange,
    Stream,
    Whole,
    pieces,
    text_of,
    vector,
)

_CREATED = 1_760_000_000
_ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "model", "tool": "tool"}


def chat(exchange: Exchange) -> Whole | Stream:
    """Answer `POST /v1/chat/completions`."""
    body = exchange.body
    reply = answer(chat_ask(body))
    call = {
        "id": f"call_{exchange.number}",
        "type": "function",
        "function": {"name": reply.tool, "arguments": json.dumps(reply.arguments)},
    }
    head = {"id": f"chatcmpl-{exchange.number:06}", "created": _CREATED, "model": exchange.model}
    finish = "tool_calls" if reply.tool else "stop"
    if body.get("stream"):
        return _chat_chunks(exchange, reply, call, head, finish)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if reply.tool else reply.text,
        "refusal": None,
    }
    if reply.tool:
        message["tool_calls"] = [call]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": _chat_usage(exchange)}


def chat_ask(body: dict[str, Any]) -> Ask:
    """Read the request of a chat completion."""
    choice = body.get("tool_choice")
    form = body.get("response_format") or {}
    return Ask(
        turns=[_chat_turn(message) for message in body.get("messages", [])],
        tools={
            tool["function"]["name"]: tool["function"].get("parameters") or {"type": "object"}
            for tool in body.get("tools") or []
            if choice != "none"
        },
        forced_tool=choice["function"]["name"] if isinstance(choice, dict) and "function" in choice else None,
        must_call=choice == "required",
        schema=_chat_schema(form),
    )


def _chat_schema(form: dict[str, Any]) -> dict[str, Any] | None:
    if form.get("type") == "json_schema":
        return dict(form["json_schema"].get("schema") or {})
    return {"type": "object"} if form.get("type") == "json_object" else None


def _chat_turn(message: dict[str, Any]) -> Turn:
    return Turn(_ROLES.get(message.get("role", "user"), "user"), text_of(message.get("content")))  # type: ignore[arg-type]


def _chat_usage(exchange: Exchange) -> dict[str, Any]:
    usage = exchange.usage
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": REASONING_TOKENS, "audio_tokens": 0},
    }


def _chat_chunks(
    exchange: Exchange, reply: Answer, call: dict[str, Any], head: dict[str, Any], finish: str
) -> Iterator[tuple[str | None, dict[str, Any] | str]]:
    """Stream a chat completion; its usage comes if it was asked for, as at OpenAI."""
    wants_usage = bool((exchange.body.get("stream_options") or {}).get("include_usage"))
    head = {**head, "object": "chat.completion.chunk"}
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": None if reply.tool else "", "refusal": None}
    ]
    if reply.tool:
        function = call["function"]
        deltas.append({"tool_calls": [{**call, "index": 0, "function": {**function, "arguments": ""}}]})
        deltas += [
            {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
            for piece in pieces(function["arguments"])
        ]
    else:
        deltas += [{"content": piece} for piece in pieces(reply.text)]
    for delta in deltas:
        yield (
            None,
            {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]},
        )
    yield None, {**head, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish}]}
    if wants_usage:
        yield None, {**head, "choices": [], "usage": _chat_usage(exchange)}
    yield None, "[DONE]"


class Responses:
    """`POST /v1/responses`, with what earlier responses said, for `previous_response_id`."""

    def __init__(self) -> None:
        self._conversations: dict[str, list[dict[str, Any]]] = {}

    def __call__(self, exchange: Exchange) -> Whole | Stream:
        """Answer a request, streamed or whole."""
        body = exchange.body
        items = self.items(body)
        reply = answer(responses_ask(body, items))
        output = [_output_item(exchange, reply)]
        identity = f"resp_{exchange.number:06}"
        self._conversations[identity] = [*items, *output]
        response = {
            "id": identity,
            "object": "response",
            "created_at": _CREATED,
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "metadata": body.get("metadata") or {},
            "model": exchange.model,
            "output": output,
            "parallel_tool_calls": True,
            "previous_response_id": body.get("previous_response_id"),
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": body.get("tools") or [],
            "top_p": 1.0,
            "usage": {
                "input_tokens": exchange.usage.input_tokens,
                "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
                "output_tokens": exchange.usage.output_tokens,
                "output_tokens_details": {"reasoning_tokens": REASONING_TOKENS},
                "total_tokens": exchange.usage.input_tokens + exchange.usage.output_tokens,
            },
        }
        return _response_events(response, output[0]) if body.get("stream") else response

    def items(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what came before and what is new."""
        return [*self._conversations.get(body.get("previous_response_id") or "", []), *_given(body)]


def _given(body: dict[str, Any]) -> list[dict[str, Any]]:
    given = body.get("input") or ""
    return given if isinstance(given, list) else [{"role": "user", "content": given}]


def responses_ask(body: dict[str, Any], items: list[dict[str, Any]] | None = None) -> Ask:
    """Read the request of a response, with the items of earlier ones if they are given."""
    items = _given(body) if items is None else items
    choice = body.get("tool_choice")
    form = (body.get("text") or {}).get("format") or {}
    tools = [tool for tool in body.get("tools") or [] if tool.get("type") == "function" and choice != "none"]
    return Ask(
        turns=[Turn("system", body.get("instructions") or ""), *map(_response_turn, items)],
        tools={tool["name"]: tool.get("parameters") or {"type": "object"} for tool in tools},
        forced_tool=choice.get("name") if isinstance(choice, dict) else None,
        must_call=choice == "required",
        schema=form.get("schema") or {} if form.get("type") == "json_schema" else None,
    )


def _response_turn(item: dict[str, Any]) -> Turn:
    if item.get("type") == "function_call_output":
        return Turn("tool", text_of(item.get("output")))
    if item.get("type") == "function_call":
        return Turn("model", "")
    return _chat_turn(item)


def _output_item(exchange: Exchange, reply: Answer) -> dict[str, Any]:
    if reply.tool:
        return {
            "id": f"fc_{exchange.number}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{exchange.number}",
            "name": reply.tool,
            "arguments": json.dumps(reply.arguments),
        }
    return {
        "id": f"msg_{exchange.number}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}],
    }


def _response_events(response: dict[str, Any], item: dict[str, Any]) -> Stream:
    """Stream a response: its parts are numbered, each with its place."""
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    place = {"output_index": 0, "item_id": item["id"]}
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
    ]
    if item["type"] == "function_call":
        empty = {**item, "arguments": "", "status": "in_progress"}
        events.append(("response.output_item.added", {"output_index": 0, "item": empty}))
        kind = "response.function_call_arguments"
        events += [(f"{kind}.delta", {**place, "delta": piece}) for piece in pieces(item["arguments"])]
        events.append((f"{kind}.done", {**place, "arguments": item["arguments"], "name": item["name"]}))
    else:
        empty = {**item, "content": [], "status": "in_progress"}
        part = item["content"][0]
        place["content_index"] = 0
        events.append(("response.output_item.added", {"output_index": 0, "item": empty}))
        events.append(("response.content_part.added", {**place, "part": {**part, "text": ""}}))
        events += [
            ("response.output_text.delta", {**place, "delta": piece, "logprobs": []})
            for piece in pieces(part["text"])
        ]
        events.append(("response.output_text.done", {**place, "text": part["text"], "logprobs": []}))
        events.append(("response.content_part.done", {**place, "part": part}))
    events.append(("response.output_item.done", {"output_index": 0, "item": item}))
    events.append(("response.completed", {"response": response}))
    for number, (name, data) in enumerate(events):
        yield name, {"type": name, "sequence_number": number, **data}


def embeddings(exchange: Exchange) -> Whole:
    """Answer `POST /v1/embeddings`, in base64 where the SDK asks for that."""
    given = exchange.body.get("input")
    inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    numbers = vector(exchange.body.get("dimensions") or 16)
    packed = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    embedding = packed if exchange.body.get("encoding_format") == "base64" else numbers
    tokens = exchange.usage.input_tokens
    return {
        "object": "list",
        "model": exchange.model,
        "data": [
            {"object": "embedding", "index": index, "embedding": embedding} for index in range(len(inputs))
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
