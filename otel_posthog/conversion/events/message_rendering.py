"""Messages in the shapes that PostHog's pages render.

PostHog's normalizer (products/ai_observability/frontend/normalizer, recipes openai_chat and anthropic)
renders `{role, content, tool_calls, tool_call_id}` with text, images, thinking and tool blocks. It shows only
text and tool calls of the conventions' own `parts`, so we put parts into the richer shape.
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
    """Return the messages in the shape of `$ai_input`; without a `media` replacer, with media."""
    rendered: list[dict[str, Any]] = []
    for message in messages:
        parts = message["parts"]
        part = parts[0] if len(parts) == 1 else None
        if type(part) is dict and part.get("type") == "text" and type(text := part.get("content")) is str:
            if media is not None and may_hold_base64(text):  # true for hardly any message
                text = replace_media(text, media)
            rendered.append({"role": message["role"], "content": text})
        else:
            rendered.extend(_render(message, media))
    return rendered


def text_length(messages: Sequence[Message]) -> int:
    """Return the number of characters of all text in the messages, without media."""
    return sum(
        len(content)
        for message in messages
        for part in message.get("parts", ())
        if isinstance(part, dict)
        and isinstance(content := part.get("content"), str)
        and part.get("type") != "blob"
    )


def _render(message: Message, media: MediaReplacer | None) -> Iterable[dict[str, Any]]:
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
            render = _BLOCKS.get(kind) if isinstance(kind, str) else None
            block = render(part, media) if render is not None else part
            blocks.append(block if media is None else replace_media(block, media))
    if blocks or calls or not parts:
        only_text = len(blocks) == 1 and isinstance(blocks[0], dict) and set(blocks[0]) == {"type", "text"}
        content = blocks[0]["text"] if only_text else blocks or None
        rendered: dict[str, Any] = {"role": role, "content": content}
        if calls:
            rendered["tool_calls"] = calls
        yield rendered


def _json(value: Any) -> str:
    """Return a value as text, since PostHog's pages expect text there."""
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
    """Return the id of a tool call, cut if it holds data: LiteLLM puts Gemini's thought signatures there."""
    call_id = part.get("id")
    if media is not None and isinstance(call_id, str) and replace_media(call_id) != call_id:
        return call_id[:64]
    return call_id


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
        text_or_url = media(mime, data, modality)
        if "://" not in text_or_url:
            return {"type": "text", "text": text_or_url}
        return _uri({"uri": text_or_url, "modality": modality or (mime or "").partition("/")[0]}, None)
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
    text = uri if uri.startswith("[") else f"[{part.get('modality') or 'file'}: {uri}]"
    return {"type": "text", "text": text}


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
"""By part type of the GenAI conventions; parts of other types stay as they are."""
