"""A stand-in for OpenAI and Gemini on loopback: both wires, streaming included, canned answers.

The demo and the tests talk to it through the real `openai` and `google-genai` clients when no key is set.
Answers are a pure function of the request: the text by what the prompt asks, tokens by text length (four
characters a token), vectors and latency by a hash. A model that ends in ``-unavailable`` (503) or
``-limited`` (429), or a prompt that holds ``[[503]]`` or ``[[429]]``, fails as the real service words it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

JSON = dict[str, Any]

_CREATED = 1_763_600_000  # a fixed second: answers do not depend on the clock
_ANSWERS: tuple[tuple[str, str], ...] = (
    (
        r"tl;?dr|summar",
        "TL;DR: the launch moved to Thursday, Maria owns the list, the venue is booked.",
    ),
    (r"translat", "¡Claro! Nos vemos mañana a las ocho en la plaza, no olvides traer la guitarra."),
    (
        r"smart repl|suggest.{0,20}repl|quick repl",
        '["Sounds great!", "Can we do it tomorrow?", "Tell me more"]',
    ),
    (r"meme|caption", "When the tests pass on the first run and nobody is there to see it."),
    (
        r"auto.?repl|away|out of office",
        "Thanks for writing! I am offline right now and will answer you soon.",
    ),
    (r"mention|@\w", "You called? Here is what I know: the meeting starts at ten, and there will be cake."),
    (r"joke|funny", "I told my computer I needed a break, and it said: no problem, I will go to sleep."),
    (r"weather", "It is sunny with a light breeze, 21 degrees. A good day to leave the umbrella at home."),
    (r"draw|image|picture|photo|paint", "Here is the picture you asked for. I hope you like the colours!"),
    (
        r"hello|\bhi\b|\bhey\b",
        "Hello there! It is lovely to hear from you. What shall we talk about today?",
    ),
)
_DEFAULT = "That is a lovely question. The short answer is yes, the long one needs a bit of patience."
_REASONING = {"none": 0, "minimal": 0, "low": 16, "medium": 48, "high": 128, "xhigh": 256}
_IMAGE_TOKENS = 258  # what Gemini counts for one small picture; good enough for both services
_SIZES = {"1:1": (64, 64), "16:9": (128, 72), "9:16": (72, 128), "4:3": (80, 60), "3:4": (60, 80)}


class Failure(NamedTuple):
    """How a service says no: HTTP status, and the words of each wire."""

    status: int
    message: str
    openai_type: str
    openai_code: str
    google_status: str


_FAILURES = {
    429: Failure(
        429, "Rate limit reached for requests.", "requests", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"
    ),
    503: Failure(
        503,
        "The model is overloaded. Please try again later.",
        "server_error",
        "service_unavailable",
        "UNAVAILABLE",
    ),
}


class Reply(NamedTuple):
    """What goes back: one JSON body, or a stream of server-sent events, or bytes."""

    body: JSON | bytes | None = None
    events: Iterator[tuple[str | None, JSON | str]] | None = None
    status: int = 200


# --- pieces shared by both wires ----------------------------------------------------------------------------


def _tokens(text: str) -> int:
    return -(-len(text) // 4)


def _answer(prompt: str) -> str:
    return next((text for pattern, text in _ANSWERS if re.search(pattern, prompt, re.IGNORECASE)), _DEFAULT)


def _pieces(text: str, size: int = 12) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _cached(tokens: int) -> int:
    """Half of a long prompt counts as cached, in whole steps of 128, as the services report it."""
    return tokens // 2 // 128 * 128 if tokens >= 256 else 0


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def _vector(text: str, dimensions: int) -> list[float]:
    raw = b"".join(
        hashlib.sha256(f"{block}:{text}".encode("utf-8", "replace")).digest()
        for block in range(-(-dimensions // 32))
    )
    scale = 74.0 * dimensions**0.5  # about unit length: a byte around 127.5 has a deviation of 74
    return [round((byte - 127.5) / scale, 6) for byte in raw[:dimensions]]


def _png(seed: str, width: int = 64, height: int = 64) -> str:
    """Draw a real PNG, base64: a two-coloured gradient whose colours come from the prompt."""
    red, green, blue, *_ = hashlib.sha256(seed.encode("utf-8", "replace")).digest()
    rows = b"".join(
        b"\0" + bytes(c for x in range(width) for c in (red, (green + 2 * x) % 256, (blue + 2 * y) % 256))
        for y in range(height)
    )

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    )
    return base64.b64encode(png).decode()


def _arguments(schema: JSON, prompt: str) -> JSON:
    """Arguments that fit a tool's JSON schema."""
    values: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    words = prompt[-40:].strip()
    return {
        name: (kind.get("enum") or [values.get(str(kind.get("type", "string")).lower(), words)])[0]
        for name, kind in (schema.get("properties") or {}).items()
    }


def _shaped(text: str, shape: JSON | None, schema: JSON | None, prompt: str) -> str:
    """Make an answer the JSON that was asked for: by schema, or an object of its own."""
    if schema:
        return json.dumps(_arguments(schema, prompt), ensure_ascii=False)
    return json.dumps({"answer": text}, ensure_ascii=False) if shape else text


def _text_of(content: Any) -> str:
    """All text in a message's content, whichever of the two wires it comes from."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return _text_of(content.get("text") or content.get("content") or content.get("parts") or "")
    if isinstance(content, list):
        return "\n".join(filter(None, map(_text_of, content)))
    return ""


def _failure(model: str, prompt: str) -> Failure | None:
    for status, suffix in ((503, "-unavailable"), (429, "-limited")):
        if model.endswith(suffix) or f"[[{status}]]" in prompt:
            return _FAILURES[status]
    return None


# --- OpenAI -------------------------------------------------------------------------------------------------


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
    everything = _text_of(messages)
    prompt = next((_text_of(m) for m in reversed(messages) if m.get("role") == "user"), everything)
    if failure := _failure(model, everything):
        return _openai_failure(failure)
    count = request.get("n") or 1
    shape = request.get("response_format") or {}
    asks_json = shape if str(shape.get("type")).startswith("json") else None
    text = _shaped(_answer(prompt), asks_json, (shape.get("json_schema") or {}).get("schema"), prompt)
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    finish = "stop"
    if limit and _tokens(text) > limit:
        text, finish = text[: limit * 4], "length"
    calls: list[JSON] = []
    wants_tool = request.get("tool_choice") != "none" and (not messages or messages[-1].get("role") != "tool")
    if request.get("tools") and wants_tool:
        function = request["tools"][0]["function"]
        arguments = json.dumps(_arguments(function.get("parameters") or {}, prompt))
        calls = [
            {
                "id": "call_" + _digest(prompt)[:12],
                "type": "function",
                "function": {"name": function["name"], "arguments": arguments},
            }
        ]
        text, finish = "", "tool_calls"
    reasoning = _REASONING.get(request.get("reasoning_effort") or "none", 0)
    spoken = _tokens(text or calls[0]["function"]["arguments"]) * count
    asked = _tokens(everything)
    usage = {
        "prompt_tokens": asked,
        "completion_tokens": spoken + reasoning,
        "total_tokens": asked + spoken + reasoning,
        "prompt_tokens_details": {"cached_tokens": _cached(asked), "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    head = {
        "id": "chatcmpl-" + _digest(model, everything)[:24],
        "created": _CREATED,
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
            for piece in _pieces(call["function"]["arguments"]):
                yield chunk(index, {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        for piece in _pieces(text):
            yield chunk(index, {"content": piece})
        yield chunk(index, {}, finish)
    if usage:
        yield None, {**head, "choices": [], "usage": usage}
    yield None, "[DONE]"


def _responses(request: JSON) -> Reply:
    model, given = request.get("model", ""), request.get("input") or ""
    everything = "\n".join(filter(None, (request.get("instructions") or "", _text_of(given))))
    if failure := _failure(model, everything):
        return _openai_failure(failure)
    items = given if isinstance(given, list) else [{"role": "user", "content": given}]
    prompt = next((_text_of(i) for i in reversed(items) if i.get("role") == "user"), everything)
    mark = _digest(model, everything)[:24]
    kinds = {tool.get("type"): tool for tool in request.get("tools") or []}
    output: list[JSON] = []
    if "web_search" in kinds or "web_search_preview" in kinds:
        action = {"type": "search", "query": prompt[:60], "queries": [prompt[:60]], "sources": []}
        output.append(
            {"id": "ws_" + mark, "type": "web_search_call", "status": "completed", "action": action}
        )
    if "image_generation" in kinds:
        image = {"id": "ig_" + mark, "type": "image_generation_call", "status": "completed"}
        output.append({**image, "result": _png(prompt)})
    function = kinds.get("function")
    if function and not any(item.get("type") == "function_call_output" for item in items):
        arguments = json.dumps(_arguments(function.get("parameters") or {}, prompt))
        call = {"id": "fc_" + mark, "type": "function_call", "status": "completed", "call_id": "call_" + mark}
        output.append({**call, "name": function["name"], "arguments": arguments})
    text = "" if function and output and output[-1]["type"] == "function_call" else _answer(prompt)
    if text:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        message = {"id": "msg_" + mark, "type": "message", "role": "assistant", "status": "completed"}
        output.append({**message, "content": [part]})
    reasoning = _REASONING.get((request.get("reasoning") or {}).get("effort") or "none", 0)
    asked = _tokens(everything)
    spoken = _tokens(text or output[-1].get("arguments", "")) + reasoning
    response = {
        "id": "resp_" + mark,
        "object": "response",
        "created_at": _CREATED,
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
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": _cached(asked), "cache_write_tokens": 0},
            "output_tokens": spoken,
            "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": asked + spoken,
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
            for piece in _pieces(part["text"]):
                yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
            yield event("response.output_text.done", **place, text=part["text"], logprobs=[])
            yield event("response.content_part.done", **place, part=part)
        elif item["type"] == "function_call":
            empty = {**item, "arguments": "", "status": "in_progress"}
            yield event("response.output_item.added", output_index=index, item=empty)
            for piece in _pieces(item["arguments"]):
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
    if failure := _failure(model, "".join(texts)):
        return _openai_failure(failure)
    dimensions = request.get("dimensions") or 1536
    vectors: list[Any] = [_vector(text, dimensions) for text in texts]
    if request.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() for vector in vectors]
    used = sum(map(_tokens, texts))
    data = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": used, "total_tokens": used}
    return Reply({"object": "list", "data": data, "model": model, "usage": usage})


def _images(request: JSON) -> Reply:
    prompt, model = str(request.get("prompt") or ""), request.get("model") or "gpt-image-1"
    if failure := _failure(model, prompt):
        return _openai_failure(failure)
    count = int(request.get("n") or 1)
    pictures = int(request.get("reference_images") or 0) * _IMAGE_TOKENS
    asked, drawn = _tokens(prompt), _IMAGE_TOKENS * count
    usage = {
        "input_tokens": asked + pictures,
        "input_tokens_details": {"text_tokens": asked, "image_tokens": pictures},
        "output_tokens": drawn,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": drawn},
        "total_tokens": asked + pictures + drawn,
    }
    shape: JSON = {
        "created": _CREATED if not request.get("stream") else None,
        "background": "opaque",
        "output_format": request.get("output_format") or "png",
        "quality": request.get("quality") or "low",
        "size": request.get("size") or "1024x1024",
    }
    pictures_made = [_png(f"{prompt}{index}") for index in range(count)]
    if request.get("stream"):
        event: JSON = {
            **shape,
            "type": "image_generation.completed",
            "created_at": _CREATED,
            "b64_json": pictures_made[0],
            "usage": usage,
        }
        partial = {**event, "type": "image_generation.partial_image", "partial_image_index": 0}
        del partial["usage"], partial["created"], event["created"]
        partials = [(partial["type"], partial)] if request.get("partial_images") else []
        return Reply(events=iter([*partials, (event["type"], event)]))
    return Reply({**shape, "data": [{"b64_json": picture} for picture in pictures_made], "usage": usage})


def _multipart(body: bytes) -> JSON:
    """Read the plain fields of a form, and how many pictures it carries (images.edit is sent as a form)."""
    text = body.decode("latin-1")
    fields: JSON = dict(re.findall(r'name="(\w+)"\r\n\r\n(.*?)\r\n--', text, re.DOTALL))
    fields["reference_images"] = len(re.findall(r'name="image(?:\[\d*\])?"; filename', text))
    return fields


_OPENAI: dict[str, Callable[[JSON], Reply]] = {
    "chat/completions": _chat,
    "responses": _responses,
    "embeddings": _embeddings,
    "images/generations": _images,
    "images/edits": _images,
}


# --- Gemini -------------------------------------------------------------------------------------------------


def _camel(value: Any) -> Any:
    """Read field names in either spelling, as Google's JSON does; the user's own objects stay as they are."""
    if isinstance(value, list):
        return [_camel(one) for one in value]
    if not isinstance(value, dict):
        return value
    own = {"args", "response", "parameters", "parametersJsonSchema", "parameters_json_schema"}
    return {
        re.sub(r"_([a-z])", lambda found: found[1].upper(), name): one if name in own else _camel(one)
        for name, one in value.items()
    }


def _google_failure(failure: Failure) -> Reply:
    error = {"code": failure.status, "message": failure.message, "status": failure.google_status}
    return Reply({"error": error}, status=failure.status)


def _generate(model: str, request: JSON, *, stream: bool) -> Reply:
    contents = request.get("contents") or []
    everything = _text_of([request.get("systemInstruction") or "", contents])
    if failure := _failure(model, everything):
        return _google_failure(failure)
    config = request.get("generationConfig") or {}
    given = [part for content in contents for part in content.get("parts") or []]
    prompt = next(
        (_text_of(c) for c in reversed(contents) if c.get("role", "user") == "user" and _text_of(c)), ""
    )
    tools: dict[str, Any] = {
        name: value for tool in request.get("tools") or [] for name, value in tool.items()
    }
    parts: list[JSON] = []
    schema = config.get("responseSchema") or config.get("responseJsonSchema")
    asks_json = config if str(config.get("responseMimeType")).endswith("json") else None
    text, finish = _shaped(_answer(prompt), asks_json, schema, prompt), "STOP"
    limit = config.get("maxOutputTokens")
    if limit and _tokens(text) > limit:
        text, finish = text[: limit * 4], "MAX_TOKENS"
    if (functions := tools.get("functionDeclarations")) and "functionResponse" not in (given or [{}])[-1]:
        schema = functions[0].get("parameters") or functions[0].get("parametersJsonSchema") or {}
        call = {"name": functions[0]["name"], "args": _arguments(schema, prompt)}
        parts, text = [{"functionCall": call}], ""
    draws = "image" in model or "IMAGE" in (config.get("responseModalities") or [])
    spoken = _tokens(text or json.dumps(parts))
    asked = _tokens(everything)
    pictures = _IMAGE_TOKENS * sum("inlineData" in part or "fileData" in part for part in given)
    thinking = config.get("thinkingConfig") or {}
    level = str(
        thinking.get("thinkingLevel") or ("low" if "2.5" in model or "3" in model else "none")
    ).lower()
    thoughts = min(_REASONING.get(level, 48), thinking.get("thinkingBudget", 1024)) if not draws else 0
    usage: JSON = {
        "promptTokenCount": asked + pictures,
        "candidatesTokenCount": spoken + (_IMAGE_TOKENS if draws else 0),
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": asked}]
        + ([{"modality": "IMAGE", "tokenCount": pictures}] if pictures else []),
    }
    if draws:
        ratio = (config.get("imageConfig") or {}).get("aspectRatio", "1:1")
        picture = _png(prompt, *_SIZES.get(ratio, (64, 64)))
        parts = [*parts, {"inlineData": {"mimeType": "image/png", "data": picture}}]
        usage["candidatesTokensDetails"] = [
            {"modality": "TEXT", "tokenCount": spoken},
            {"modality": "IMAGE", "tokenCount": _IMAGE_TOKENS},
        ]
    if cached := _cached(asked):
        usage["cachedContentTokenCount"] = cached
        usage["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": cached}]
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    candidate: JSON = {}
    if "googleSearch" in tools:
        usage["toolUsePromptTokenCount"] = 40
        candidate["groundingMetadata"] = {"webSearchQueries": [prompt[:60]], "groundingChunks": []}
    if "urlContext" in tools:
        found = {"retrievedUrl": "https://example.com/", "urlRetrievalStatus": "URL_RETRIEVAL_STATUS_SUCCESS"}
        candidate["urlContextMetadata"] = {"urlMetadata": [found]}
    counted = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount")
    usage["totalTokenCount"] = sum(int(usage.get(name) or 0) for name in counted)
    head = {"modelVersion": model, "responseId": _digest(model, everything)[:22]}
    if not stream:
        said = [{"text": text}, *parts] if text else parts
        answer = {
            "content": {"role": "model", "parts": said},
            "finishReason": finish,
            "index": 0,
            **candidate,
        }
        return Reply({"candidates": [answer], "usageMetadata": usage, **head})
    said = [*({"text": piece} for piece in _pieces(text, 24)), *parts]
    early = {"promptTokenCount": asked + pictures, "totalTokenCount": asked + pictures}

    def events() -> Iterator[tuple[str | None, JSON | str]]:
        for number, part in enumerate(said, 1):
            answer = {"content": {"role": "model", "parts": [part]}, "index": 0}
            last = number == len(said)
            if last:
                answer |= {"finishReason": finish, **candidate}
            yield None, {"candidates": [answer], "usageMetadata": usage if last else early, **head}

    return Reply(events=events())


def _embed_one(request: JSON) -> JSON:
    text = _text_of(request.get("content") or {})
    return {"values": _vector(text, request.get("outputDimensionality") or 768)}


def _embed(model: str, request: JSON) -> Reply:
    if failure := _failure(model, _text_of(request.get("content") or {})):
        return _google_failure(failure)
    asked = _tokens(_text_of(request.get("content") or {}))
    usage = {"promptTokenCount": asked, "totalTokenCount": asked}
    return Reply({"embedding": _embed_one(request), "usageMetadata": usage})


def _embed_batch(model: str, request: JSON) -> Reply:
    requests = request.get("requests") or []
    texts = [_text_of(one.get("content") or {}) for one in requests]
    if failure := _failure(model, "".join(texts)):
        return _google_failure(failure)
    asked = sum(map(_tokens, texts))
    usage = {"promptTokenCount": asked, "totalTokenCount": asked}
    return Reply({"embeddings": [_embed_one(one) for one in requests], "usageMetadata": usage})


_GEMINI: dict[str, Callable[[str, JSON], Reply]] = {
    "generateContent": lambda model, request: _generate(model, request, stream=False),
    "streamGenerateContent": lambda model, request: _generate(model, request, stream=True),
    "embedContent": _embed,
    "batchEmbedContents": _embed_batch,
}


# --- the server ---------------------------------------------------------------------------------------------


def _route(path: str, request: JSON) -> Reply:
    path = path.partition("?")[0].strip("/")
    if found := re.search(r"models/([^/:]+):(\w+)$", path):
        model, method = found.groups()
        if method in _GEMINI:
            return _GEMINI[method](model, _camel(request))
    elif path.startswith("v1/") and (answer := _OPENAI.get(path[3:])):
        return answer(request)
    return Reply(
        {"error": {"code": 404, "message": f"No such path: /{path}", "status": "NOT_FOUND"}}, status=404
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # many small chunks: without it each would wait for an ACK
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Stay silent: the demo's output is the demo's."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.server.on_request is not None:
            self.server.on_request(self.path, dict(self.headers.items()), body)
        kind = self.headers.get("content-type") or ""
        try:
            request = _multipart(body) if kind.startswith("multipart/") else json.loads(body or b"{}")
        except ValueError:
            request = None
        if not isinstance(request, dict):
            error = {"code": 400, "message": "Invalid JSON payload received.", "status": "INVALID_ARGUMENT"}
            self._send(Reply({"error": error}, status=400))
            return
        reply = _route(self.path, request)
        time.sleep(self.server.wait_for(body))
        try:
            self._send(reply)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client left early; that is its right

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        # Neither client shall spend the demo's time on retries of a failure that is meant.
        self.send_header("x-should-retry", "false")
        self.send_header("x-request-id", "req_standin")
        if reply.events is None:
            body = json.dumps(reply.body).encode()
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for name, data in reply.events:
            text = data if isinstance(data, str) else json.dumps(data)
            line = (f"event: {name}\n" if name else "") + f"data: {text}\n\n"
            raw = line.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
            time.sleep(self.server.chunk_pause)
        self.wfile.write(b"0\r\n\r\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    chunk_pause: float
    latency: tuple[float, float]
    on_request: Callable[[str, dict[str, str], bytes], None] | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a connection that its client has dropped in peace; anything else is a fault of ours."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def wait_for(self, body: bytes) -> float:
        """Pick a latency within the range that depends on the request alone, so that two runs look alike."""
        low, high = self.latency
        return low + (high - low) * zlib.crc32(body) / 0xFFFFFFFF


class FakeProviders:
    """OpenAI's and Gemini's protocols on loopback, ready when constructed; a context manager.

    `latency` is how long an answer takes in seconds: one number, or a range to pick from by request.
    `chunk_pause` is the pause after each streamed chunk in seconds. `on_request` is shown each
    request's path, headers and body.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: float | tuple[float, float] = (0.02, 0.15),
        chunk_pause: float = 0.004,
        *,
        on_request: Callable[[str, dict[str, str], bytes], None] | None = None,
    ) -> None:
        self._server = _Server((host, port), _Handler)
        self._server.latency = latency if isinstance(latency, tuple) else (latency, latency)
        self._server.chunk_pause = chunk_pause
        self._server.on_request = on_request
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="standin", daemon=True
        )
        self._thread.start()

    @property
    def openai_base_url(self) -> str:
        """What ``OpenAI(base_url=...)`` takes."""
        return f"{self.gemini_base_url}/v1"

    @property
    def gemini_base_url(self) -> str:
        """What ``genai.Client(http_options=HttpOptions(base_url=...))`` takes."""
        return f"http://{self.host}:{self.port}"

    def close(self) -> None:
        """Stop serving and free the port. Calling it again does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
