"""Gemini's contents as the conventions' messages, and their counts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Any

from instrumentors.common import attributes as names
from instrumentors.common.call_span import Attributes, read_pieces
from instrumentors.common.message_parts import (
    Message,
    MessagePart,
    blob,
    dumps,
    modality,
    reasoning,
    text,
    text_length,
    tool_call,
    tool_result,
    word,
)
from instrumentors.gemini.payload import get, get_list

_ROLES = {"model": "assistant", "function": "tool"}


def inline_media(mime_type: Any, data: Any) -> MessagePart:
    """Return a part of inline media; bytes, as live sessions have them, stay bytes until `dump_messages`."""
    return blob(str(mime_type), data if isinstance(data, bytes) else str(data or ""))


def dump_messages(messages: list[Message]) -> str:
    """Return messages as an attribute, with base64 in the plain alphabet; the SDK's is in that of URLs.

    That converts megabytes, so it is done only if content is captured.
    """
    for message in messages:
        for part in message["parts"]:
            if part["type"] == "blob":
                data = part["content"]
                part["content"] = (
                    b64encode(data).decode()
                    if isinstance(data, bytes)
                    else data.replace("-", "+").replace("_", "/")
                )
    return dumps(messages)


def to_part(part: Any) -> MessagePart:
    """Return a part of a content as the conventions' part."""
    words = get(part, "text")
    if words is not None:
        return reasoning(words) if get(part, "thought") else text(words)
    if inline := get(part, "inlineData"):
        return inline_media(get(inline, "mimeType"), get(inline, "data"))
    if file := get(part, "fileData"):
        kind = get(file, "mimeType")
        return {"type": "uri", "uri": get(file, "fileUri"), "modality": modality(kind), "mime_type": kind}
    if call := get(part, "functionCall"):
        return tool_call(get(call, "name"), get(call, "args"), get(call, "id"))
    if result := get(part, "functionResponse"):
        return tool_result(get(result, "response"), get(result, "id"), get(result, "name"))
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
    if result := get(part, "toolResponse"):
        detail = {"type": str(get(result, "toolType") or "tool").lower(), "response": get(result, "response")}
        identifier = get(result, "id")
        return {"type": "server_tool_call_response", "id": identifier, "server_tool_call_response": detail}
    return {"type": next(iter(part), "unknown")}


def to_message(content: Any) -> Message:
    """Return a content as the conventions' message."""
    parts = read_pieces(to_part, get_list(get(content, "parts")))
    role = word(get(content, "role"), "user")
    if parts and all(part["type"] == "tool_call_response" for part in parts):
        role = "tool"
    # A function may answer with media beside its JSON.
    answers = [get_list(get(part, "functionResponse", "parts")) for part in get_list(get(content, "parts"))]
    parts += read_pieces(to_part, (part for answer in answers for part in answer))
    return {"role": _ROLES.get(role, role), "parts": parts}


def join_text(parts: list[Any]) -> list[Any]:
    """Return Gemini's parts with adjacent pieces of text joined: the cuts between chunks mean nothing."""
    runs: list[tuple[Any, list[str]]] = []
    for part in parts:
        words = get(part, "text")
        if not isinstance(words, str):
            runs.append((part, []))
        elif runs and runs[-1][1] and bool(runs[-1][0].get("thought")) == bool(part.get("thought")):
            runs[-1][1].append(words)
        else:
            runs.append((part, [words]))
    return [{**part, "text": "".join(words)} if words else part for part, words in runs]


def input_attributes(
    messages: list[Message], content: bool, system: list[MessagePart] | None = None
) -> Attributes:
    """Return the length and number of a request's messages, and with `content` the messages."""
    files = sum(part["type"] in {"blob", "uri"} for message in messages for part in message["parts"])
    return {
        names.PROMPT_LENGTH: text_length(messages) + text_length(system or []),
        names.MESSAGE_COUNT: len(messages),
        names.FILE_COUNT: files or None,
        "gen_ai.input.messages": dump_messages(messages) if content else None,
        "gen_ai.system_instructions": dumps(system) if system and content else None,
    }


def count_images(messages: Iterable[Message]) -> int | None:
    """Return the number of images in messages; None if there is none."""
    return sum(part.get("modality") == "image" for one in messages for part in one["parts"]) or None
