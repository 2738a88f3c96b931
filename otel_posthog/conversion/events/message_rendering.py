"""Messages in the shapes that PostHog's pages render.

PostHog's normalizer (products/ai_observability/frontend/normalizer, recipes openai_chat and anthropic)
renders `{role, content, tool_calls, tool_call_id}` with text, images, thinking and tool blocks; of the
conventions' own `parts` it shows only text and tool calls, so parts are put into the richer shape.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from otel_posthog.conversion.model_call import Message
from otel_posthog.conversion.privacy.media import MediaReplacer, may_hold_base64, replace_media

__all__ = ["render_messages", "text_length"]

Part = dict[str, Any]


def render_messages(messages: Sequence[Message], media: MediaReplacer | None) -> list[dict[str, Any]]:
    """The messages as `$ai_input` and `$ai_output_choices` hold them; with `media` None that stays whole."""
    made: list[dict[str, Any]] = []
    for message in messages:
        parts = message["parts"]
        part = parts[0] if len(parts) == 1 else None
        if type(part) is dict and part.get("type") == "text" and type(text := part.get("content")) is str:
            if media is not None and may_hold_base64(text):  # nearly no message
                text = replace_media(text, media)
            made.append({"role": message["role"], "content": text})
        else:
            made.extend(_rendered(message, media))
    return made


def text_length(messages: Sequence[Message]) -> int:
    """Characters of all text in the messages; media count nothing."""
    return sum(
        len(content)
        for message in messages
        for part in message.get("parts", ())
        if isinstance(part, dict)
        and isinstance(content := part.get("content"), str)
        and part.get("type") != "blob"
    )


def _rendered(message: Message, media: MediaReplacer | None) -> Iterable[dict[str, Any]]:
    role, parts = message["role"], message["parts"]
    blocks: list[Any] = []
    calls: list[dict[str, Any]] = []
    for part in parts:
        if not isinstance(part, dict):
            blocks.append({"type": "text", "text": _text_of(part, media)})
            continue
        kind = part.get("type")
        if kind == "tool_call":
            calls.append(_tool_call(part, media))
        elif kind == "tool_call_response":
            response = part.get("response", part.get("result"))
            yield {
                "role": "tool",
                "tool_call_id": _call_id(part, media),
                "content": _text_of(response, media),
            }
        else:
            shape = _BLOCKS.get(kind) if isinstance(kind, str) else None
            block = shape(part, media) if shape is not None else part
            blocks.append(block if media is None else replace_media(block, media))
    if blocks or calls or not parts:
        only_text = len(blocks) == 1 and isinstance(blocks[0], dict) and set(blocks[0]) == {"type", "text"}
        made: dict[str, Any] = {"role": role, "content": blocks[0]["text"] if only_text else blocks or None}
        if calls:
            made["tool_calls"] = calls
        yield made


def _json(value: Any) -> str:
    """A value in a place where pages expect text."""
    if value is None:
        return ""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        pass
    try:
        return str(value)
    except RecursionError:
        return "[nested too deeply]"


def _text_of(value: Any, media: MediaReplacer | None) -> str:
    value = value if media is None else replace_media(value, media)
    return value if isinstance(value, str) else _json(value)


def _tool_call(part: Part, media: MediaReplacer | None) -> dict[str, Any]:
    arguments = part.get("arguments")
    return {
        "id": _call_id(part, media),
        "type": "function",
        "function": {
            "name": part.get("name") if media is None else replace_media(part.get("name"), media),
            "arguments": _text_of(arguments, media),
        },
    }


def _call_id(part: Part, media: MediaReplacer | None) -> Any:
    """The id of a tool's call, cut where data stand in it: LiteLLM puts Gemini's thought signatures there."""
    found = part.get("id")
    return (
        found[:64]
        if media is not None and isinstance(found, str) and replace_media(found) != found
        else found
    )


def _text(part: Part, _media: MediaReplacer | None) -> Part:
    content = part.get("content", part.get("text"))
    return {"type": "text", "text": content if isinstance(content, str) else _json(content)}


def _reasoning(part: Part, _media: MediaReplacer | None) -> Part:
    content = part.get("content", part.get("text"))
    return {"type": "thinking", "thinking": content if isinstance(content, str) else _json(content)}


def _blob(part: Part, media: MediaReplacer | None) -> Part:
    mime, data = part.get("mime_type"), part.get("content", part.get("data"))
    mime = mime if isinstance(mime, str) else None
    if not isinstance(data, str | bytes):
        return part
    if media is not None:
        modality = part.get("modality")
        modality = modality if isinstance(modality, str) else None
        instead = media(mime, data, modality)
        if "://" not in instead:
            return {"type": "text", "text": instead}
        return _uri({"uri": instead, "modality": modality or (mime or "").partition("/")[0]}, None)
    text = data if isinstance(data, str) else base64.b64encode(data).decode()
    uri = f"data:{mime or 'application/octet-stream'};base64,{text}"
    if (mime or "").startswith("image/") or part.get("modality") == "image":
        return {"type": "image", "image": uri}
    return {"type": "file", "file": {"filename": mime or "file", "file_data": uri}}


def _uri(part: Part, media: MediaReplacer | None) -> Part:
    uri = part.get("uri")
    if not isinstance(uri, str):
        return part
    if media is not None:
        uri = replace_media(uri, media)
    if part.get("modality") == "image" and ("://" in uri or uri.startswith("data:")):
        return {"type": "image", "image": uri}
    said = uri if uri.startswith("[") else f"[{part.get('modality') or 'file'}: {uri}]"
    return {"type": "text", "text": said}


def _file(part: Part, _media: MediaReplacer | None) -> Part:
    return {"type": "text", "text": f"[{part.get('modality') or 'file'}: {part.get('file_id')}]"}


def _server_tool_call(part: Part, _media: MediaReplacer | None) -> Part:
    return {
        "type": "tool_use",
        "id": part.get("id"),
        "name": part.get("name"),
        "input": part.get("server_tool_call", part.get("arguments")),
    }


def _server_tool_response(part: Part, _media: MediaReplacer | None) -> Part:
    return {
        "type": "tool_result",
        "tool_use_id": part.get("id"),
        "content": _json(part.get("server_tool_call_response", part.get("response"))),
    }


_BLOCKS: dict[str, Callable[[Part, MediaReplacer | None], Part]] = {
    "text": _text,
    "refusal": _text,
    "reasoning": _reasoning,
    "thinking": _reasoning,
    "blob": _blob,
    "uri": _uri,
    "file": _file,
    "server_tool_call": _server_tool_call,
    "server_tool_call_response": _server_tool_response,
}
"""Part types of the GenAI conventions; a part of any other type is passed on as it is."""
