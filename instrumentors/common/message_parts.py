"""The GenAI conventions' message JSON: its parts, and the length of its text.

Source: open-telemetry/semantic-conventions-genai, docs/gen-ai/client-inference.md.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from enum import Enum
from typing import Any

import orjson

Message = dict[str, Any]
"""``{"role": ..., "parts": [...]}``, of an answer also ``finish_reason``."""
MessagePart = dict[str, Any]

_TEXT = frozenset({"text", "reasoning"})


def word(value: Any, default: str) -> str:
    """Return a role or other word as text, also one that is a member of an enum; `default` for none."""
    return str(value.value if isinstance(value, Enum) else value or default)


def text(content: Any) -> MessagePart:
    """Return a text part."""
    return {"type": "text", "content": content}


def reasoning(content: Any) -> MessagePart:
    """Return a part that holds the model's thoughts."""
    return {"type": "reasoning", "content": content}


def blob(mime_type: str, content: Any) -> MessagePart:
    """Return a part of inline media; `content` is base64."""
    return {"type": "blob", "mime_type": mime_type, "modality": modality(mime_type), "content": content}


def uri(address: Any, kind: str, mime_type: str | None = None) -> MessagePart:
    """Return a part that points to media; a ``data:`` address becomes a blob."""
    if isinstance(address, str) and address.startswith("data:"):
        media_type, _, content = address.partition(",")
        return blob(media_type[5:].partition(";")[0], content)
    part = {"type": "uri", "uri": address, "modality": kind}
    return {**part, "mime_type": mime_type} if mime_type else part


def tool_call(name: Any, arguments: Any, identifier: Any = None) -> MessagePart:
    """Return a tool call part; arguments in JSON text are parsed."""
    if isinstance(arguments, str):
        # Half an object, from a stream that broke off, stays text, and so does one that is nested too deeply.
        with contextlib.suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    part = {"type": "tool_call", "name": name, "arguments": arguments}
    return {**part, "id": identifier} if identifier else part


def tool_result(response: Any, identifier: Any = None, name: Any = None) -> MessagePart:
    """Return a part that holds the result of a tool."""
    part = {"type": "tool_call_response", "response": response}
    return part | ({"id": identifier} if identifier else {}) | ({"name": name} if name else {})


def modality(mime_type: Any) -> str:
    """Return the conventions' modality of a MIME type."""
    kind = str(mime_type).partition("/")[0]
    return kind if kind in {"image", "video", "audio"} else "document"


def dumps(value: Any) -> str:
    """Return the JSON of a message attribute; values that JSON does not know become text."""
    try:
        return orjson.dumps(value, default=str).decode()
    except TypeError:  # half a surrogate pair, a number beyond 64 bits, a key that is no text
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def text_length(messages: Iterable[Message | MessagePart]) -> int:
    """Return the number of characters of all text in messages, or in parts."""
    length = 0
    for message in messages:
        for part in message.get("parts") or (message,):
            if part.get("type") in _TEXT and isinstance(content := part.get("content"), str):
                length += len(content)
    return length
