"""Messages of chat and responses, asked or answered, as the conventions' messages and parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, groupby
from typing import Any

from instrumentors.common.call_span import Attributes
from instrumentors.common.message_parts import (
    Part,
    blob,
    dumps,
    text,
    text_length,
    tool_call,
    tool_result,
    uri,
)
from instrumentors.openai.fields import get, listed

__all__ = ["ROLES", "asked", "content_parts", "joined", "message", "prompt_request"]

ROLES = {"developer": "system", "function": "tool"}
_MEDIA = frozenset({"blob", "uri", "file"})


def asked(messages: Sequence[Part], content: bool, *, system: list[Part] | None = None) -> Attributes:
    """What was asked: how long and how many, and the messages themselves where content is on."""
    facts: Attributes = {
        "posthog.prompt.length": text_length(messages) + text_length(system or ()),
        "posthog.messages.count": len(messages),
        "posthog.files.count": sum(part["type"] in _MEDIA for one in messages for part in one["parts"])
        or None,
    }
    if content:
        facts["gen_ai.input.messages"] = dumps(messages)
        if system:
            facts["gen_ai.system_instructions"] = dumps(system)
    return facts


def _image(item: Any) -> Part:
    address = get(item, "image_url", "url") or get(item, "image_url")
    if address:
        return uri(address, "image")
    return {"type": "file", "file_id": get(item, "file_id"), "modality": "image"}


def _audio(item: Any) -> Part:
    audio = get(item, "input_audio")
    return blob(f"audio/{get(audio, 'format')}", get(audio, "data"))


def _file(item: Any) -> Part:
    file = get(item, "file") or item
    if data := get(file, "file_data") or get(file, "file_url"):
        return uri(data, "document")
    return {"type": "file", "file_id": get(file, "file_id"), "modality": "document"}


def _text(item: Any) -> Part:
    return text(get(item, "text"))


def _thinking(item: Any) -> Part:
    thought = get(item, "thinking")
    if not isinstance(thought, str):
        thought = "".join(str(get(piece, "text") or "") for piece in listed(thought))
    return {"type": "reasoning", "content": thought}


_PARTS: dict[str, Callable[[Any], Part]] = {
    **dict.fromkeys(("text", "input_text", "output_text", "summary_text", "reasoning_text"), _text),
    **dict.fromkeys(("image_url", "input_image"), _image),
    **dict.fromkeys(("file", "input_file"), _file),
    "input_audio": _audio,
    "thinking": _thinking,
    "refusal": lambda item: {"type": "refusal", "content": get(item, "refusal")},
}


def content_parts(content: Any) -> list[Part]:
    """The parts of a message's content; a part of unknown type keeps its type alone."""
    if isinstance(content, str):
        return [text(content)] if content else []
    parts = []
    for item in listed(content):
        kind = str(get(item, "type"))
        read = _PARTS.get(kind)
        parts.append(read(item) if read is not None else {"type": kind})
    return parts


def joined(pieces: Sequence[Any]) -> Any:
    """Make one content of a stream's: a text, or a list where some services sent lists of parts."""
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    items = [
        item
        for piece in pieces
        for item in ([{"type": "text", "text": piece}] if isinstance(piece, str) else listed(piece))
    ]
    found: list[Any] = []
    for kind, run in groupby(items, key=lambda item: str(get(item, "type"))):
        alike = [*run]
        values = [get(item, kind) for item in alike]
        if all(isinstance(value, str) for value in values):
            found.append({"type": kind, kind: "".join(values)})
        elif all(isinstance(value, list) for value in values):
            found.append({"type": kind, kind: [*chain(*values)]})
        else:
            found += alike
    return found


def message(given: Any) -> Part:
    """One chat message."""
    role = str(get(given, "role") or "assistant")
    answer = get(given, "content")
    parts = content_parts(answer)
    if role in {"tool", "function"}:
        result = answer if isinstance(answer, str) else parts
        parts = [tool_result(result, get(given, "tool_call_id"), get(given, "name"))]
    if thought := get(given, "reasoning_content"):
        parts.insert(0, {"type": "reasoning", "content": thought})
    if refusal := get(given, "refusal"):
        parts.append({"type": "refusal", "content": refusal})
    for call in listed(get(given, "tool_calls")):
        function = get(call, "function") or get(call, "custom")
        arguments = get(function, "arguments") or get(function, "input")
        parts.append(tool_call(get(function, "name"), arguments, get(call, "id")))
    if call := get(given, "function_call"):
        parts.append(tool_call(get(call, "name"), get(call, "arguments")))
    if audio := get(given, "audio", "data"):
        parts.append(blob("audio/wav", audio))
    return {"role": ROLES.get(role, role), "parts": parts}


def prompt_request(body: Any, content: bool) -> Attributes:
    """A request whose content is one text or a list of texts."""
    given = body.get("prompt") if "prompt" in body else body.get("input")
    texts = [given] if isinstance(given, str) else [one for one in listed(given) if isinstance(one, str)]
    return asked([{"role": "user", "parts": [text(one)]} for one in texts], content)
