"""The GenAI conventions' message JSON: its parts, and what is counted over them.

Source: open-telemetry/semantic-conventions-genai, docs/gen-ai/client-inference.md.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

Part = dict[str, Any]


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
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def text_length(value: Any) -> int:
    """Count the characters of all text in the parts of messages, one message or one part."""
    if isinstance(value, list):
        return sum(map(text_length, value))
    if not isinstance(value, dict):
        return 0
    if "parts" in value:
        return text_length(value["parts"])
    content = value.get("content") if value.get("type") in {"text", "reasoning"} else None
    return len(content) if isinstance(content, str) else 0
