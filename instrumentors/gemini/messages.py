"""Gemini's contents as the convention's messages, and what is counted over them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Any

from instrumentors.common.call_span import Attributes
from instrumentors.common.message_parts import (
    Part,
    blob,
    dumps,
    modality,
    text,
    text_length,
    tool_call,
    tool_result,
)
from instrumentors.gemini.payload import get, items

_ROLES = {"model": "assistant", "function": "tool"}


def media(mime_type: Any, data: Any) -> Part:
    """Make a part of inline media; bytes, as live sessions have them, stay bytes until they are written."""
    return blob(str(mime_type), data if isinstance(data, bytes) else str(data or ""))


def written(messages: list[Part]) -> str:
    """Write messages as an attribute. The SDK's base64 is in the URL alphabet, the convention's in the plain.

    Megabytes are turned over here, which is not done for who keeps content off.
    """
    for message in messages:
        for part in message["parts"]:
            if part["type"] == "blob":
                given = part["content"]
                part["content"] = (
                    b64encode(given).decode()
                    if isinstance(given, bytes)
                    else given.replace("-", "+").replace("_", "/")
                )
    return dumps(messages)


def part_of(part: Any) -> Part:
    """Read one part of a content, asked or answered."""
    words = get(part, "text")
    if words is not None:
        return {"type": "reasoning", "content": words} if get(part, "thought") else text(words)
    if inline := get(part, "inlineData"):
        return media(get(inline, "mimeType"), get(inline, "data"))
    if file := get(part, "fileData"):
        kind = get(file, "mimeType")
        return {"type": "uri", "uri": get(file, "fileUri"), "modality": modality(kind), "mime_type": kind}
    if call := get(part, "functionCall"):
        return tool_call(get(call, "name"), get(call, "args"), get(call, "id"))
    if answer := get(part, "functionResponse"):
        return tool_result(get(answer, "response"), get(answer, "id"), get(answer, "name"))
    if code := get(part, "executableCode"):
        detail = {"type": "code_execution", "code": get(code, "code"), "language": get(code, "language")}
        return {"type": "server_tool_call", "name": "code_execution", "server_tool_call": detail}
    if result := get(part, "codeExecutionResult"):
        detail = {
            "type": "code_execution",
            "outcome": get(result, "outcome"),
            "output": get(result, "output"),
        }
        return {"type": "server_tool_call_response", "server_tool_call_response": detail}
    if call := get(part, "toolCall"):
        kind = str(get(call, "toolType") or "tool").lower()
        detail = {"type": kind, "arguments": get(call, "args")}
        return {"type": "server_tool_call", "id": get(call, "id"), "name": kind, "server_tool_call": detail}
    if answer := get(part, "toolResponse"):
        detail = {"type": str(get(answer, "toolType") or "tool").lower(), "response": get(answer, "response")}
        identifier = get(answer, "id")
        return {"type": "server_tool_call_response", "id": identifier, "server_tool_call_response": detail}
    return {"type": next(iter(part), "unknown")}


def message_of(content: Any) -> Part:
    """Read a content, asked or answered."""
    parts = [part_of(part) for part in items(get(content, "parts"))]
    role = str(get(content, "role") or "user")
    if parts and all(part["type"] == "tool_call_response" for part in parts):
        role = "tool"
    return {"role": _ROLES.get(role, role), "parts": parts}


def joined(parts: list[Any]) -> list[Any]:
    """Join neighbouring pieces of text: chunks are the wire's affair."""
    runs: list[tuple[Any, list[str]]] = []
    for part in parts:
        words = part.get("text")
        if not isinstance(words, str):
            runs.append((part, []))
        elif runs and runs[-1][1] and bool(runs[-1][0].get("thought")) == bool(part.get("thought")):
            runs[-1][1].append(words)
        else:
            runs.append((part, [words]))
    return [{**part, "text": "".join(words)} if words else part for part, words in runs]


def asked(messages: list[Part], content: bool, system: list[Part] | None = None) -> Attributes:
    """Say how much was asked, and with `content` what: the messages' and the system instruction's JSON."""
    files = sum(part["type"] in {"blob", "uri"} for message in messages for part in message["parts"])
    return {
        "posthog.prompt.length": text_length(messages) + text_length(system or []),
        "posthog.messages.count": len(messages),
        "posthog.files.count": files or None,
        "gen_ai.input.messages": written(messages) if content else None,
        "gen_ai.system_instructions": dumps(system) if system and content else None,
    }


def pictures(messages: Iterable[Part]) -> int | None:
    """Count the images in messages."""
    return sum(part.get("modality") == "image" for one in messages for part in one["parts"]) or None
