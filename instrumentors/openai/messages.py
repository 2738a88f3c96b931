"""Messages of chat and responses, of requests and answers, as the conventions' messages and parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, groupby
from typing import Any

from instrumentors.common import attributes as names
from instrumentors.common.call_span import Attributes, read_piece, read_pieces
from instrumentors.common.message_parts import (
    Message,
    MessagePart,
    blob,
    dumps,
    reasoning,
    text,
    text_length,
    tool_call,
    tool_result,
    uri,
    word,
)
from instrumentors.openai.fields import get, get_list

ROLES = {"developer": "system", "function": "tool"}
_MEDIA = frozenset({"blob", "uri", "file"})
_UNMEASURED = frozenset({"tokens"})


def input_attributes(
    messages: Sequence[Message], content: bool, *, system: list[MessagePart] | None = None
) -> Attributes:
    """Return the length and number of a request's messages, and with `content` the messages."""
    kinds = [part["type"] for message in messages for part in message["parts"]]
    files = sum(kind in _MEDIA for kind in kinds)
    length = text_length(messages) + text_length(system or ())
    attributes: Attributes = {
        # Tokens, and a prompt that the service has stored, have a length that is not known; it is not zero.
        names.PROMPT_LENGTH: length or (0 if kinds and _UNMEASURED.isdisjoint(kinds) else None),
        names.MESSAGE_COUNT: len(messages) or None,
        names.FILE_COUNT: files or None,
    }
    if content:
        attributes["gen_ai.input.messages"] = dumps(messages)
        if system:
            attributes["gen_ai.system_instructions"] = dumps(system)
    return attributes


def _image(item: Any) -> MessagePart:
    address = get(item, "image_url", "url") or get(item, "image_url")
    if address:
        return uri(address, "image")
    return {"type": "file", "file_id": get(item, "file_id"), "modality": "image"}


def _audio(item: Any) -> MessagePart:
    audio = get(item, "input_audio")
    return blob(f"audio/{get(audio, 'format')}", get(audio, "data"))


def _file(item: Any) -> MessagePart:
    file = get(item, "file") or item
    if data := get(file, "file_data") or get(file, "file_url"):
        return uri(data, "document")
    return {"type": "file", "file_id": get(file, "file_id"), "modality": "document"}


def _text(item: Any) -> MessagePart:
    return text(get(item, "text"))


def plain_text(value: Any) -> str:
    """Return the words of a text, of a part that holds one, or of a list of them."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, (list, tuple)):
        return "".join(read_pieces(plain_text, value))
    return plain_text(next((words for name in _WORDS if (words := get(value, name)) is not None), None))


_WORDS = ("text", "thinking", "summary", "content")


def join_thoughts(message: Any) -> str:
    """Return the thoughts of a message, or of a delta, under the first name that has some."""
    return next((words for name in _THOUGHTS if (words := plain_text(get(message, name)))), "")


_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")
"""DeepSeek and most others; vLLM, Groq, Ollama and OpenRouter; some repeat their thoughts in a second one."""


def _thinking(item: Any) -> MessagePart:
    return reasoning(plain_text(get(item, "thinking")))


_PARTS: dict[str, Callable[[Any], MessagePart]] = {
    **dict.fromkeys(("text", "input_text", "output_text", "summary_text", "reasoning_text"), _text),
    **dict.fromkeys(("image_url", "input_image"), _image),
    **dict.fromkeys(("file", "input_file"), _file),
    "input_audio": _audio,
    "thinking": _thinking,
    "refusal": lambda item: {"type": "refusal", "content": get(item, "refusal")},
}


def to_parts(content: Any) -> list[MessagePart]:
    """Return the parts of a message's content; a part of unknown type keeps its type alone."""
    if isinstance(content, str):
        return [text(content)] if content else []
    return read_pieces(_to_part, get_list(content))


def _to_part(item: Any) -> MessagePart:
    if isinstance(item, str):
        return text(item)
    kind = str(get(item, "type"))
    to_part = _PARTS.get(kind)
    return to_part(item) if to_part is not None else {"type": kind}


def join_content(pieces: Sequence[Any]) -> Any:
    """Return the content of a stream: a text, or a list if the service streamed lists of parts."""
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    items = [
        item
        for piece in pieces
        for item in ([{"type": "text", "text": piece}] if isinstance(piece, str) else get_list(piece))
    ]
    joined: list[Any] = []
    for kind, run in groupby(items, key=lambda item: str(get(item, "type"))):
        of_kind = [*run]
        values = [get(item, kind) for item in of_kind]
        if all(isinstance(value, str) for value in values):
            joined.append({"type": kind, kind: "".join(values)})
        elif all(isinstance(value, list) for value in values):
            joined.append({"type": kind, kind: [*chain(*values)]})
        else:
            joined += of_kind
    return joined


def _tool_call(call: Any) -> MessagePart:
    function = get(call, "function") or get(call, "custom")
    arguments = get(function, "arguments")
    if arguments is None:
        arguments = get(function, "input")
    return tool_call(get(function, "name"), arguments, get(call, "id"))


def to_message(chat_message: Any, audio_format: str | None = None) -> Message:
    """Return a chat message as the conventions' message; `audio_format` is what the request asked for."""
    role = word(get(chat_message, "role"), "assistant")
    content = get(chat_message, "content")
    parts = to_parts(content)
    if role in {"tool", "function"}:
        result = content if isinstance(content, str) else parts
        parts = [tool_result(result, get(chat_message, "tool_call_id"), get(chat_message, "name"))]
    if thoughts := read_piece(join_thoughts, chat_message):
        parts.insert(0, reasoning(thoughts))
    if refusal := get(chat_message, "refusal"):
        parts.append({"type": "refusal", "content": plain_text(refusal)})
    parts += read_pieces(_tool_call, get_list(get(chat_message, "tool_calls")))
    if call := get(chat_message, "function_call"):
        parts.append(tool_call(get(call, "name"), get(call, "arguments")))
    if audio := get(chat_message, "audio"):
        if (words := get(audio, "transcript")) and isinstance(words, str):
            parts.append(text(words))
        if data := get(audio, "data"):
            parts.append(blob(f"audio/{audio_format or 'wav'}", data))
    return {"role": ROLES.get(role, role), "parts": parts}


def prompt_request(body: Any, content: bool) -> Attributes:
    """Return the attributes of an input that is a text, tokens, parts of content, or a list of those."""
    prompt = body.get("prompt") if "prompt" in body else body.get("input")
    inputs = get_list(prompt)
    if isinstance(prompt, (str, Mapping)) or (inputs and all(isinstance(one, int) for one in inputs)):
        inputs = [prompt]
    elif inputs and all(isinstance(one, Mapping) and "type" in one for one in inputs):
        inputs = [inputs]  # the parts of one content
    messages: list[Message] = [
        {"role": "user", "parts": parts} for one in inputs if (parts := read_piece(_input_parts, one))
    ]
    return input_attributes(messages, content)


def _input_parts(one: Any) -> list[MessagePart]:
    if isinstance(one, Mapping):
        return to_parts(one.get("content")) if "content" in one else to_parts([one])
    if get_list(one) and all(isinstance(token, int) for token in one):
        return [{"type": "tokens", "content": [*one]}]
    return to_parts(one)
