"""One part of a message, whoever wrote it, in the neutral form of `calls.Message`.

By their `type` the parts of chat completions, Responses, Anthropic and the Vercel AI SDK; by their keys those
of Gemini. A part of unknown shape stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_posthog.conversion.readers.attribute_values import parse_json, text

__all__ = ["Part", "is_neutral", "part_of", "text_part", "tool_call"]

Part = dict[str, Any]


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
"""Part types of the GenAI conventions, and the field that tells them from others of the same name."""


def text_part(value: Any) -> Part:
    """A text, or whatever stands where a text belongs, as text."""
    if not isinstance(value, str):
        try:
            value = text(value) or str(value)
        except RecursionError:
            value = "[nested too deeply]"
    return {"type": "text", "content": value}


def part_of(part: Any) -> Any:
    """One part of a message in the neutral form, whoever wrote it."""
    if not isinstance(part, dict):
        return text_part(part)
    kind = part.get("type")
    if isinstance(kind, str):
        shape = _SHAPES.get(kind)
        made = shape(part) if shape is not None else None
        return part if made is None else made
    for key, shape in _KEYED:
        if key in part:
            made = shape(part)
            return part if made is None else made
    return part


# --- shapes by `type` ---


def _text(part: Part) -> Part | None:
    said = part.get("text", part.get("content", part.get("refusal")))
    return {"type": "text", "content": said} if isinstance(said, str) else None


def _reasoning(part: Part) -> Part | None:
    said = part.get("thinking", part.get("text", part.get("content")))
    if isinstance(said, str):
        return {"type": "reasoning", "content": said}
    summary = part.get("summary")
    if isinstance(summary, list):  # an item of OpenAI's Responses
        texts = [
            each["text"] for each in summary if isinstance(each, dict) and isinstance(each.get("text"), str)
        ]
        return {"type": "reasoning", "content": "\n".join(texts)}
    return None


def tool_call(part: Part) -> Part:
    """A call of a tool as chat completions, Responses, Anthropic, Gemini, Vercel or LangChain write it."""
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


def _tool_result(part: Part) -> Part:
    inner = part.get("functionResponse", part.get("function_response"))
    inner = inner if isinstance(inner, dict) else part
    response = next(
        (inner[key] for key in ("output", "result", "response", "content") if inner.get(key) is not None),
        None,
    )
    if isinstance(response, dict) and set(response) == {"type", "value"}:  # the Vercel AI SDK, from 5 on
        response = response["value"]
    answered = next(
        (
            inner[key]
            for key in ("call_id", "toolCallId", "tool_call_id", "tool_use_id", "id", "name")
            if inner.get(key)
        ),
        None,
    )
    return {"type": "tool_call_response", "id": answered, "response": parse_json(response)}


def _media(url_or_data: Any, mime: Any, modality: str | None) -> Part | None:
    """A picture, sound or file: data, or where it is."""
    mime = mime if isinstance(mime, str) and "/" in mime else None
    kind = modality or _modality(mime)
    url_or_data = octets(url_or_data)
    if isinstance(url_or_data, bytes):
        return {"type": "blob", "mime_type": mime, "modality": kind, "content": url_or_data}
    if not isinstance(url_or_data, str) or not url_or_data:
        return None
    if url_or_data.startswith("data:") and ";base64," in url_or_data[:200]:
        head, _, data = url_or_data.partition(";base64,")
        mime = head[5:].split(";")[0] or mime
        return {"type": "blob", "mime_type": mime, "modality": modality or _modality(mime), "content": data}
    if "://" in url_or_data[:32]:
        return {"type": "uri", "uri": url_or_data, "modality": kind, "mime_type": mime}
    return {"type": "blob", "mime_type": mime, "modality": kind, "content": url_or_data}


def octets(value: Any) -> Any:
    """The bytes of a `Buffer` or `Uint8Array` as JavaScript writes it as JSON; anything else as it is."""
    if isinstance(value, dict):
        numbers = (
            value.get("data")
            if value.get("type") == "Buffer"
            else [*value.values()]
            if "0" in value
            else None
        )
        if isinstance(numbers, list):
            try:
                return bytes(numbers)
            except (TypeError, ValueError):
                pass
    return value


def _modality(mime: str | None) -> str:
    kind = (mime or "").partition("/")[0]
    return kind if kind in {"image", "audio", "video"} else "document"


def _image(part: Part) -> Part | None:
    """`image_url` of OpenAI, `image` of Anthropic and of the Vercel AI SDK."""
    found = part.get("image_url", part.get("image", part.get("url", part.get("data"))))
    source = part.get("source")
    mime = part.get("mediaType", part.get("mimeType", part.get("mime_type")))
    if isinstance(source, dict):
        found = source.get("data", source.get("url"))
        mime = source.get("media_type")
    found = octets(found)
    if isinstance(found, dict):
        found = found.get("url", found.get("data"))
    if found is None and isinstance(part.get("file_id"), str):
        return {"type": "file", "file_id": part["file_id"], "modality": "image"}
    return _media(found, mime, "image")


def _audio(part: Part) -> Part | None:
    inner = part.get("input_audio", part.get("audio"))
    inner = inner if isinstance(inner, dict) else part
    form = inner.get("format", inner.get("mimeType"))
    mime = (
        form if isinstance(form, str) and "/" in form else f"audio/{form}" if isinstance(form, str) else None
    )
    return _media(inner.get("data"), mime, "audio")


def _file(part: Part) -> Part | None:
    if isinstance(part.get("source"), dict):  # a document of Anthropic's
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


_SHAPES: dict[str, Callable[[Part], Part | None]] = {
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
"""Content parts by their `type`: chat completions, Responses, Anthropic's blocks, the Vercel AI SDK."""


# --- Gemini's parts, which have no `type` ---


def _gemini_text(part: Part) -> Part | None:
    said = part.get("text")
    if not isinstance(said, str):
        return None
    return {"type": "reasoning" if part.get("thought") is True else "text", "content": said}


def _gemini_data(part: Part) -> Part | None:
    inner = part.get("inlineData", part.get("inline_data", part.get("fileData", part.get("file_data"))))
    if not isinstance(inner, dict):
        return None
    where = inner.get("data", inner.get("fileUri", inner.get("file_uri")))
    return _media(where, inner.get("mimeType", inner.get("mime_type")), None)


_KEYED: tuple[tuple[str, Callable[[Part], Part | None]], ...] = (
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
