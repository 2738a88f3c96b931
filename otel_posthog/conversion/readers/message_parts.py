"""One part of a message, in any library's shape, in the neutral form of `model_call.Message`.

Parts of chat completions, Responses, Anthropic and the Vercel AI SDK are known by their `type`, Gemini's by
their keys. A part of unknown shape stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_posthog.conversion.readers.attribute_values import javascript_bytes, parse_json, text

__all__ = ["MessagePart", "is_neutral", "part_of", "text_part", "tool_call"]

MessagePart = dict[str, Any]


def is_neutral(part: Any) -> bool:
    """Whether a part is in the conventions' own form."""
    if type(part) is not dict:
        return False
    kind = part.get("type")
    return type(kind) is str and _NEUTRAL.get(kind) in part


_NEUTRAL = {
    "text": "content",
    "tool_call": "name",
    "tool_call_response": "type",
    "server_tool_call": "type",
    "server_tool_call_response": "type",
    "blob": "content",
    "uri": "uri",
    "file": "file_id",
    "reasoning": "content",
    "compaction": "type",
    "generic": "type",
}
"""Part types of the GenAI conventions, and a field that no other part of the same type has."""


def text_part(value: Any) -> MessagePart:
    """Return a text part of any value."""
    if not isinstance(value, str):
        try:
            value = text(value) or str(value)
        except RecursionError:
            value = "[nested too deeply]"
    return {"type": "text", "content": value}


def part_of(part: Any) -> Any:
    """Return one part of a message, in any library's shape, in the neutral form."""
    if not isinstance(part, dict):
        return text_part(part)
    kind = part.get("type")
    if isinstance(kind, str):
        reader = _BY_TYPE.get(kind)
        neutral = reader(part) if reader is not None else None
        return part if neutral is None else neutral
    for key, reader in _BY_KEY:
        if key in part:
            neutral = reader(part)
            return part if neutral is None else neutral
    return part


# --- parts with a `type` ---


def _text(part: MessagePart) -> MessagePart | None:
    content = part.get("text", part.get("content", part.get("refusal")))
    return {"type": "text", "content": content} if isinstance(content, str) else None


def _reasoning(part: MessagePart) -> MessagePart | None:
    content = part.get("thinking", part.get("text", part.get("content")))
    if isinstance(content, str):
        return {"type": "reasoning", "content": content}
    summary = part.get("summary")
    if isinstance(summary, list):  # an item of OpenAI's Responses
        texts = [
            each["text"] for each in summary if isinstance(each, dict) and isinstance(each.get("text"), str)
        ]
        return {"type": "reasoning", "content": "\n".join(texts)}
    return None


def tool_call(part: MessagePart) -> MessagePart:
    """Return a tool call of chat completions, Responses, Anthropic, Gemini, Vercel or LangChain."""
    function = part.get(
        "function", part.get("functionCall", part.get("function_call", part.get("tool_call")))
    )
    inner = function if isinstance(function, dict) else part
    arguments = next(
        (inner[key] for key in ("arguments", "input", "args", "parameters") if inner.get(key) is not None),
        None,
    )
    call_id = next(
        (part[key] for key in ("call_id", "toolCallId", "tool_call_id", "id") if part.get(key)), None
    )
    name = inner.get("name") or inner.get("toolName") or inner.get("tool_name")
    return {
        "type": "tool_call",
        "id": call_id if call_id is not None else inner.get("id"),
        "name": name,
        "arguments": parse_json(arguments),
    }


def _tool_result(part: MessagePart) -> MessagePart:
    inner = part.get("functionResponse", part.get("function_response"))
    inner = inner if isinstance(inner, dict) else part
    response = next(
        (inner[key] for key in ("output", "result", "response", "content") if inner.get(key) is not None),
        None,
    )
    if isinstance(response, dict) and set(response) == {"type", "value"}:  # the Vercel AI SDK, from 5 on
        response = response["value"]
    call_id = next(
        (
            inner[key]
            for key in ("call_id", "toolCallId", "tool_call_id", "tool_use_id", "id", "name")
            if inner.get(key)
        ),
        None,
    )
    return {"type": "tool_call_response", "id": call_id, "response": parse_json(response)}


def _media(url_or_data: Any, mime: Any, modality: str | None) -> MessagePart | None:
    """Return an image, sound or file: its data or its address."""
    mime = mime if isinstance(mime, str) and "/" in mime else None
    kind = modality or _modality(mime)
    octets = url_or_data if isinstance(url_or_data, bytes) else javascript_bytes(url_or_data)
    if octets is not None:
        return {"type": "blob", "mime_type": mime, "modality": kind, "content": octets}
    if not isinstance(url_or_data, str) or not url_or_data:
        return None
    if url_or_data.startswith("data:") and ";base64," in url_or_data[:200]:
        head, _, data = url_or_data.partition(";base64,")
        mime = head[5:].split(";")[0] or mime
        return {"type": "blob", "mime_type": mime, "modality": modality or _modality(mime), "content": data}
    if "://" in url_or_data[:32]:
        return {"type": "uri", "uri": url_or_data, "modality": kind, "mime_type": mime}
    return {"type": "blob", "mime_type": mime, "modality": kind, "content": url_or_data}


def _modality(mime: str | None) -> str:
    kind = (mime or "").partition("/")[0]
    return kind if kind in {"image", "audio", "video"} else "document"


def _image(part: MessagePart) -> MessagePart | None:
    """Return an image: OpenAI's `image_url`, or `image` of Anthropic and the Vercel AI SDK."""
    image = part.get("image_url", part.get("image", part.get("url", part.get("data"))))
    source = part.get("source")
    mime = part.get("mediaType", part.get("mimeType", part.get("mime_type")))
    if isinstance(source, dict):
        image = source.get("data", source.get("url"))
        mime = source.get("media_type")
    if isinstance(image, dict) and javascript_bytes(image) is None:
        image = image.get("url", image.get("data"))
    if image is None and isinstance(part.get("file_id"), str):
        return {"type": "file", "file_id": part["file_id"], "modality": "image"}
    return _media(image, mime, "image")


def _audio(part: MessagePart) -> MessagePart | None:
    inner = part.get("input_audio", part.get("audio"))
    inner = inner if isinstance(inner, dict) else part
    form = inner.get("format", inner.get("mimeType"))
    mime = (
        form if isinstance(form, str) and "/" in form else f"audio/{form}" if isinstance(form, str) else None
    )
    return _media(inner.get("data"), mime, "audio")


def _file(part: MessagePart) -> MessagePart | None:
    if isinstance(part.get("source"), dict):  # Anthropic's document
        source = part["source"]
        if source.get("type") == "text":
            return _text({"text": source.get("data")})
        return _media(source.get("data", source.get("url")), source.get("media_type"), None)
    inner = part.get("file")
    inner = inner if isinstance(inner, dict) else part
    if isinstance(inner.get("file_id"), str):
        return {"type": "file", "file_id": inner["file_id"], "modality": part.get("modality")}
    data = inner.get("file_data", inner.get("data", inner.get("url", inner.get("file_url"))))
    return _media(data, inner.get("mediaType", inner.get("mimeType", inner.get("mime_type"))), None)


_BY_TYPE: dict[str, Callable[[MessagePart], MessagePart | None]] = {
    "text": _text,
    "input_text": _text,
    "output_text": _text,
    "refusal": _text,
    "thinking": _reasoning,
    "reasoning": _reasoning,
    "function": tool_call,
    "tool_call": tool_call,
    "function_call": tool_call,
    "tool_use": tool_call,
    "tool-call": tool_call,
    "tool_result": _tool_result,
    "tool-result": _tool_result,
    "function_call_output": _tool_result,
    "image": _image,
    "image_url": _image,
    "input_image": _image,
    "input_audio": _audio,
    "audio": _audio,
    "file": _file,
    "input_file": _file,
    "document": _file,
    "media": _file,
}
"""Readers by `type`: chat completions, Responses, Anthropic's blocks, the Vercel AI SDK."""


# --- Gemini's parts, which have no `type` ---


def _gemini_text(part: MessagePart) -> MessagePart | None:
    content = part.get("text")
    if not isinstance(content, str):
        return None
    return {"type": "reasoning" if part.get("thought") is True else "text", "content": content}


def _gemini_data(part: MessagePart) -> MessagePart | None:
    inner = part.get("inlineData", part.get("inline_data", part.get("fileData", part.get("file_data"))))
    if not isinstance(inner, dict):
        return None
    url_or_data = inner.get("data", inner.get("fileUri", inner.get("file_uri")))
    return _media(url_or_data, inner.get("mimeType", inner.get("mime_type")), None)


_BY_KEY: tuple[tuple[str, Callable[[MessagePart], MessagePart | None]], ...] = (
    ("functionCall", tool_call),
    ("function_call", tool_call),
    ("functionResponse", _tool_result),
    ("function_response", _tool_result),
    ("inlineData", _gemini_data),
    ("inline_data", _gemini_data),
    ("fileData", _gemini_data),
    ("file_data", _gemini_data),
    ("text", _gemini_text),
)
