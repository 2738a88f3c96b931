"""The GenAI conventions' message JSON: its parts, and what is counted over them.

Source: open-telemetry/semantic-conventions-genai, docs/gen-ai/client-inference.md.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from typing import Any

import orjson

Part = dict[str, Any]

_TEXT = frozenset({"text", "reasoning"})


def text(content: Any) -> Part:
    """Make a text part."""
    return {"type": "text", "content": content}


def blob(mime_type: str, content: Any) -> Part:
    """Make a part of inline media; `content` is base64."""
    return {"type": "blob", "mime_type": mime_type, "modality": modality(mime_type), "content": content}


def uri(address: Any, kind: str, mime_type: str | None = None) -> Part:
    """Make a part that points to media; a ``data:`` address becomes a blob."""
    if isinstance(address, str) and address.startswith("data:"):
        head, _, content = address.partition(",")
        return blob(head[5:].partition(";")[0], content)
    part = {"type": "uri", "uri": address, "modality": kind}
    return {**part, "mime_type": mime_type} if mime_type else part


def tool_call(name: Any, arguments: Any, identifier: Any = None) -> Part:
    """Make a tool call part; arguments given as JSON text become the object they are."""
    if isinstance(arguments, str):
        # Half an object from a stream that broke off stays text.
        with contextlib.suppress(ValueError):
            arguments = json.loads(arguments)
    part = {"type": "tool_call", "name": name, "arguments": arguments}
    return {**part, "id": identifier} if identifier else part


def tool_result(response: Any, identifier: Any = None, name: Any = None) -> Part:
    """Make a part that holds what a tool gave back."""
    part = {"type": "tool_call_response", "response": response}
    return part | ({"id": identifier} if identifier else {}) | ({"name": name} if name else {})


def modality(mime_type: Any) -> str:
    """Say which of the convention's modalities a MIME type is."""
    kind = str(mime_type).partition("/")[0]
    return kind if kind in {"image", "video", "audio"} else "document"


def dumps(value: Any) -> str:
    """Write a message attribute. What JSON does not know is written as text."""
    try:
        return orjson.dumps(value, default=str).decode()
    except TypeError:  # half a surrogate pair, a number beyond 64 bits, a key that is no text
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def text_length(messages: Iterable[Part]) -> int:
    """Count the characters of all text in messages, or in parts."""
    length = 0
    for message in messages:
        for part in message.get("parts") or (message,):
            if part.get("type") in _TEXT and isinstance(content := part.get("content"), str):
                length += len(content)
    return length
